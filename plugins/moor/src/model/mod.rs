//! Whose is it: the attachments of every runtime on this host, in one table. Every view is a
//! projection of it.
//!
//! The kernel is the truth, and files are claims: an attachment is alive if its namespace and its
//! link are there, whatever a record says. Reading changes nothing.

mod attachment;
mod cgroup;
mod claim;
mod held;
mod identity;
mod join;
mod kernel;
mod mounts;
mod names;
mod ports;
mod processes;
mod records;
mod resolve;
mod sockets;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests;

use std::path::PathBuf;

pub use attachment::{Attachment, Drift, Pod, Port, State};
pub use cgroup::Contained;
pub use claim::Claim;
pub use kernel::{Host, Kernel, Namespace, NamespaceId, Place};
pub use names::Named;
pub use ports::HostPort;
pub use processes::{Process, Processes};

use crate::context::Context;
use crate::failure::Exit;
use crate::networks::Networks;
use crate::output::Note;
use crate::overlay;

use records::Recorded;

/// Everything that is known of the attachments of this host.
#[derive(Debug, Default)]
pub struct Model {
    /// The attachments, by network, container and interface.
    pub attachments: Vec<Attachment>,
    /// Links and addresses of this host and of every namespace.
    pub kernel: Kernel,
    /// The processes.
    pub processes: Processes,
    /// The names that Moor's DNS answers.
    pub names: Vec<Named>,
    /// Whether everything that can keep an attachment alive could be looked at. If not, nothing is
    /// called gone.
    pub is_whole: bool,
    /// What could not be seen, and what is odd. The table is complete without notes.
    pub notes: Vec<Note>,
}

impl Model {
    /// Reads records and kernel, and changes nothing.
    pub fn read(context: &Context, networks: &Networks) -> Self {
        let mut notes = Vec::new();
        let records = Self::records(context, &mut notes);
        Self::look(networks, records, notes)
    }

    /// As [`Self::read`], for the attachments alone: without a record there is none, and nothing
    /// else is read.
    pub fn of_attachments(context: &Context, networks: &Networks) -> Self {
        let mut notes = Vec::new();
        let records = Self::records(context, &mut notes);
        if records.is_empty() {
            return Self { notes, ..Self::default() };
        }
        Self::look(networks, records, notes)
    }

    fn records(context: &Context, notes: &mut Vec<Note>) -> Vec<Recorded> {
        let dir = context.cache_dir.join("results");
        context.trace(&format!("reading records in {}", dir.display()));
        if !nix::unistd::geteuid().is_root() {
            notes.push(Note::new("root", format!("needs root: {} is readable by root only", dir.display())));
        }
        records::read(&context.cache_dir, notes)
    }

    fn look(networks: &Networks, records: Vec<Recorded>, mut notes: Vec<Note>) -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        let processes = Processes::read();
        let paths: Vec<PathBuf> = records.iter().filter_map(join::path_of).collect();
        let kernel = Kernel::read(&processes, &paths, &mut notes);
        let is_whole = is_root && processes.is_whole && processes.hidden == 0 && kernel.host.id.is_some();
        let names = names::read(networks, &mut notes);
        let mut model = Self { attachments: Vec::new(), kernel, processes, names, is_whole, notes };
        model.judge(networks, records);
        model
    }

    /// Looks also for namespaces that only a descriptor, a thread, or a mount elsewhere holds, and
    /// judges all attachments again. Before anything is called dead.
    pub fn deepen(&mut self, networks: &Networks) {
        let Some(host) = self.kernel.host.id else { return };
        let held = held::read(self.kernel.known().collect(), host.device);
        self.processes.hidden = self.processes.hidden.max(held.hidden);
        self.is_whole &= held.hidden == 0;
        let mut notes = Vec::new();
        self.kernel.deepen(&held.paths, &mut notes);
        self.notes.retain(|note| !matches!(note.code, "processes" | "namespace"));
        self.notes.extend(notes);
        let records: Vec<Recorded> =
            std::mem::take(&mut self.attachments).into_iter().filter_map(recorded).collect();
        self.judge(networks, records);
    }

    fn judge(&mut self, networks: &Networks, records: Vec<Recorded>) {
        let of = |one: &Recorded| Claim::of(one.record.result.as_ref(), &one.record.attachment.ifname);
        let claims = records.iter().map(of).collect();
        self.attachments = join::attachments(self, networks, records, claims);
        self.add_published_names();
        self.note_what_is_hidden();
    }

    /// A network over many hosts has names without `dns`, too: its plugin publishes them.
    fn add_published_names(&mut self) {
        let published = overlay::attachments(&mut self.notes);
        for one in self.attachments.iter_mut().filter(|one| one.names.is_empty()) {
            let is_it = |local: &&overlay::Local| {
                local.network == one.network
                    && local.container_id == one.container_id
                    && local.ifname == one.ifname
            };
            one.names =
                published.iter().find(is_it).map(|local| local.record.names.clone()).unwrap_or_default();
        }
    }

    /// The status to end with, if this is what a command found.
    pub fn exit(&self, found: Exit) -> Exit {
        if self.notes.is_empty() { found } else { Exit::Incomplete }
    }

    /// The ports of this host that lead somewhere, by number.
    pub fn ports(&mut self) -> Vec<HostPort> {
        let mut notes = Vec::new();
        let ports = ports::read(self, &mut notes);
        self.notes.extend(notes);
        ports
    }

    /// Notes what could not be seen, if it makes a difference: the attachments whose other end is a
    /// link of this host are seen without `/proc`.
    fn note_what_is_hidden(&mut self) {
        let is_unknown = |one: &Attachment| one.state == State::Unknown;
        if self.processes.hidden > 0 || self.attachments.iter().any(is_unknown) {
            self.notes.extend(self.blindness());
        }
        for namespace in &self.kernel.namespaces {
            if let Some(fault) = &namespace.fault {
                let path = namespace.path().unwrap_or_default();
                self.notes.push(Note::about("namespace", &path, fault));
            }
        }
    }

    /// Why not everything that can keep an attachment alive could be looked at.
    pub fn blindness(&self) -> Option<Note> {
        if !self.processes.is_whole {
            let text = "/proc is not that of the initial pid namespace: what is not seen there may be alive";
            return Some(Note::new("processes", text));
        }
        let hidden = self.processes.hidden;
        let text = format!("{hidden} processes may not be looked at (needs CAP_SYS_PTRACE)");
        (hidden > 0).then(|| Note::new("processes", text))
    }
}

/// The record that an attachment was made from.
fn recorded(attachment: Attachment) -> Option<Recorded> {
    let (record, file) = (*attachment.record?, attachment.record_file?);
    Some(Recorded { record, file, at: attachment.added_at })
}
