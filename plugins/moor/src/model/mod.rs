//! Whose is it: the attachments of every runtime on this host, in one table. Every view is a
//! projection of it.
//!
//! The kernel is the truth, and files are claims: an attachment is alive if its namespace and its
//! link are there, whatever a record says. Reading changes nothing.

mod attachment;
mod cgroup;
mod claim;
mod identity;
mod join;
mod kernel;
mod mounts;
mod processes;
mod records;
mod resolve;

use std::path::PathBuf;

pub use attachment::{Attachment, Drift, Pod, Port, State};
pub use cgroup::Contained;
pub use claim::Claim;
pub use kernel::{Host, Kernel, Namespace, NamespaceId, Place};
pub use processes::{Process, Processes};

use crate::context::Context;
use crate::failure::Exit;
use crate::networks::Networks;
use crate::output::Note;

/// Everything that is known of the attachments of this host.
#[derive(Debug, Default)]
pub struct Model {
    /// The attachments, by network, container and interface.
    pub attachments: Vec<Attachment>,
    /// Links and addresses of this host and of every namespace.
    pub kernel: Kernel,
    /// The processes.
    pub processes: Processes,
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
        context.trace(&format!("reading records in {}", context.cache_dir.join("results").display()));
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            let dir = context.cache_dir.join("results");
            notes.push(Note::new("root", format!("needs root: {} is readable by root only", dir.display())));
        }
        let records = records::read(&context.cache_dir, &mut notes);
        let processes = Processes::read();
        let claims: Vec<Claim> = records
            .iter()
            .map(|one| Claim::of(one.record.result.as_ref(), &one.record.attachment.ifname))
            .collect();
        let paths: Vec<PathBuf> =
            records.iter().zip(&claims).filter_map(|(one, claim)| join::path_of(one, claim)).collect();
        let kernel = Kernel::read(&processes, &paths, &mut notes);
        let is_whole = is_root && processes.is_whole && processes.hidden == 0 && kernel.host.id.is_some();
        let mut model = Self { attachments: Vec::new(), kernel, processes, is_whole, notes };
        model.attachments = join::attachments(&model, networks, records, claims);
        model.note_what_is_hidden();
        model
    }

    /// The status to end with, if this is what a command found.
    pub fn exit(&self, found: Exit) -> Exit {
        if self.notes.is_empty() { found } else { Exit::Incomplete }
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
