//! CONTAINER as an argument: a name, `namespace/pod`, an id or the beginning of one, `pid:N`, or the
//! path of a namespace.

use std::collections::BTreeSet;
use std::path::Path;

use crate::failure::Failure;
use crate::suggest;

use super::{Attachment, Model, Place};

/// The shortest beginning of an id that is accepted.
const PREFIX_MIN: usize = 3;
/// The most candidates that an error lists.
const LISTED_MAX: usize = 10;

impl Model {
    /// The attachments of the container that the text means. Exact matches win over the beginning of
    /// an id.
    ///
    /// # Errors
    /// Nothing matches, or several containers do.
    pub fn resolve(&self, text: &str) -> Result<Vec<&Attachment>, Failure> {
        let found = self.matches(text);
        let ids: BTreeSet<&str> = found.iter().map(|one| one.container_id.as_str()).collect();
        match ids.len() {
            0 => Err(self.unknown(text)),
            1 => Ok(found),
            count => {
                let mut names: Vec<String> =
                    found.iter().map(|one| format!("{} ({})", one.shown_name(), one.container_id)).collect();
                names.dedup();
                names.truncate(LISTED_MAX);
                let all = names.join("\n  ");
                Err(Failure::refused(format!("{text:?} means {count} containers")).hint(format!("  {all}")))
            }
        }
    }

    /// The attachments that the text means, of any number of containers.
    pub fn matches(&self, text: &str) -> Vec<&Attachment> {
        if let Some(place) = self.place_of(text) {
            let is_there = |one: &Attachment| matches!(place, Place::At(at) if one.namespace == Some(at));
            // The path of a namespace that is gone still names its records.
            return self.filtered(|one| is_there(one) || one.netns.as_deref() == Some(text));
        }
        let by_name = self.filtered(|one| {
            let pod = one.pod.as_ref().is_some_and(|pod| pod.name == text);
            pod || one.name.as_deref() == Some(text) || one.container_id == text
        });
        if !by_name.is_empty() || text.len() < PREFIX_MIN {
            return by_name;
        }
        self.filtered(|one| {
            // nerdctl puts the containerd namespace before the id.
            let bare = one.container_id.rsplit_once('-').map(|(_, id)| id);
            one.container_id.starts_with(text) || bare.is_some_and(|id| id.starts_with(text))
        })
    }

    fn filtered(&self, is_meant: impl Fn(&Attachment) -> bool) -> Vec<&Attachment> {
        self.attachments.iter().filter(|one| is_meant(one)).collect()
    }

    /// Where the text leads, if it is a process or a path.
    pub fn place_of(&self, text: &str) -> Option<Place> {
        if let Some(pid) = text.strip_prefix("pid:") {
            let process = pid.parse().ok().and_then(|pid: u32| self.processes.by_pid.get(&pid));
            let Some(process) = process else { return Some(Place::Nowhere) };
            if self.kernel.host.id == Some(process.namespace) {
                return Some(Place::Host);
            }
            return Some(self.kernel.position(process.namespace).map_or(Place::Unknown, Place::At));
        }
        text.starts_with('/').then(|| self.kernel.place(Path::new(text)))
    }

    fn unknown(&self, text: &str) -> Failure {
        let what = format!("no attachment of a container {text:?}");
        if !self.notes.is_empty() {
            return Failure::incomplete(what).hint("Not everything could be looked at.");
        }
        let known = self.attachments.iter().map(Attachment::shown_name);
        match suggest::nearest(text, known) {
            Some(near) => Failure::refused(what).hint(format!("Did you mean {near}?")),
            None => Failure::refused(what),
        }
    }
}
