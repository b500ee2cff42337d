//! The container that a command changes or enters: its namespace, held open, and who it is.

use runtime::cnitool;
use sys::NetNs;

use crate::failure::Failure;
use crate::model::{Attachment, Model, NamespaceId, Place};

/// The shortest beginning of an id that is accepted.
const PREFIX_MIN: usize = 3;

/// A living container.
#[derive(Debug)]
pub struct Target<'m> {
    /// Its id, as plugins know it.
    pub id: String,
    /// Its attachments that are known.
    pub attachments: Vec<&'m Attachment>,
    /// Its namespace.
    pub netns: NetNs,
    /// The identity of the namespace.
    pub namespace: NamespaceId,
    /// A path that leads to it.
    pub path: String,
    /// The names of the links in it.
    pub links: Vec<String>,
}

impl<'m> Target<'m> {
    /// The container that the text means: by its attachments, or a namespace without any, by
    /// process, path or the beginning of the id that its cgroup has.
    ///
    /// # Errors
    /// Nothing or several are meant, or the namespace is gone or the host's own.
    pub fn find(model: &'m Model, text: &str) -> Result<Self, Failure> {
        let attachments = match model.resolve(text) {
            Ok(attachments) => attachments,
            Err(failure) => return Self::without_attachments(model, text)?.ok_or(failure),
        };
        let id = attachments.first().map(|one| one.container_id.clone()).unwrap_or_default();
        match attachments.iter().find_map(|one| one.namespace) {
            Some(at) => Self::open(model, at, id, attachments),
            None => Err(Failure::refused(format!("the namespace of {text:?} is gone, or cannot be seen"))),
        }
    }

    fn without_attachments(model: &'m Model, text: &str) -> Result<Option<Self>, Failure> {
        let (at, id) = match model.place_of(text) {
            Some(Place::Host) => {
                return Err(Failure::refused(format!("{text:?} is in the host's own network")));
            }
            Some(Place::At(at)) => (at, None),
            Some(_) => return Ok(None),
            None => match by_cgroup(model, text) {
                Some((at, id)) => (at, Some(id)),
                None => return Ok(None),
            },
        };
        let namespace = &model.kernel.namespaces[at];
        let of_process = |pid: &u32| Some(model.processes.by_pid.get(pid)?.container.as_ref()?.id.clone());
        let id = id.or_else(|| namespace.pids.iter().find_map(of_process)).or_else(|| {
            // The id that cnitool derives from a path, so that it finds the attachment, too.
            namespace.path().map(|path| cnitool::container_id(&path))
        });
        Self::open(model, at, id.unwrap_or_default(), Vec::new()).map(Some)
    }

    fn open(model: &Model, at: usize, id: String, attachments: Vec<&'m Attachment>) -> Result<Self, Failure> {
        let namespace = &model.kernel.namespaces[at];
        let netns = namespace.open().map_err(Failure::incomplete)?;
        let path = namespace.path().map(|path| path.display().to_string());
        match (netns, path, namespace.id) {
            (Some(netns), Some(path), Some(identity)) => Ok(Self {
                id,
                attachments,
                netns,
                namespace: identity,
                path,
                links: namespace.links.iter().map(|link| link.name.clone()).collect(),
            }),
            _ => Err(Failure::refused("the container has ended")),
        }
    }
}

/// The namespace of the only container whose id, by its cgroup, begins so.
fn by_cgroup(model: &Model, text: &str) -> Option<(usize, String)> {
    if text.len() < PREFIX_MIN {
        return None;
    }
    let mut found: Vec<(usize, String)> = Vec::new();
    for process in model.processes.by_pid.values() {
        let Some(container) = process.container.as_ref().filter(|one| one.id.starts_with(text)) else {
            continue;
        };
        if let Some(at) = model.kernel.position(process.namespace)
            && !found.iter().any(|(known, _)| *known == at)
        {
            found.push((at, container.id.clone()));
        }
    }
    if found.len() == 1 { found.pop() } else { None }
}
