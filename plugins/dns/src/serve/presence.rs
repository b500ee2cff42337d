//! Whether a container's namespace is still where it was, as far as a process without rights can see.
//!
//! `/proc/<pid>/ns/net` of another user's process, or of one with more capabilities than ours, may not be opened
//! (ptrace(2), PTRACE_MODE_READ), and so it tells nothing. That such a process lives is seen all the same: by the time
//! that it began, which the next one with its number has not.

use std::fs;
use std::path::{Path, PathBuf};

use sys::{NetNs, NetNsError};

use crate::record::Namespace;
use crate::zone::Attached;

/// See the module.
#[derive(Debug, Default)]
pub enum Presence {
    /// It is not looked for, since it could not be recognized.
    #[default]
    Unknown,
    /// At a path that anybody may open.
    Path {
        /// The path.
        path: PathBuf,
        /// What was there.
        recorded: Option<Namespace>,
    },
    /// That of a process.
    Process {
        /// Its directory in /proc.
        dir: PathBuf,
        /// When it began, in ticks since the boot.
        began: u64,
    },
}

impl Presence {
    /// That of an attachment with sockets in its own namespace, which is there now.
    pub fn of(attached: &Attached) -> Self {
        let Some(path) = attached.netns.as_deref() else { return Self::Unknown };
        match process_of(path) {
            // Where /proc hides other users' processes (hidepid), only DEL ends it.
            Some(dir) => began(&dir).map_or(Self::Unknown, |began| Self::Process { dir, began }),
            None => Self::Path { path: path.into(), recorded: attached.namespace },
        }
    }

    /// Whether it is known to be gone. What may not be looked at is not.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Process { dir, began: then } => began(dir) != Some(*then),
            Self::Path { path, recorded } => match NetNs::open(path) {
                Ok(netns) => {
                    recorded.is_some_and(|recorded| netns.inode().is_ok_and(|inode| inode != recorded.inode))
                }
                Err(NetNsError::Gone { .. } | NetNsError::NotANetNs { .. }) => true,
                Err(NetNsError::Io { .. }) => false,
            },
        }
    }
}

/// The directory of the process whose namespace a path is by its text: `/proc/<pid>` of `/proc/<pid>/ns/net`.
fn process_of(path: &str) -> Option<PathBuf> {
    let pid = path.strip_prefix("/proc/")?.split('/').next()?;
    pid.parse::<u32>().ok()?;
    Some(Path::new("/proc").join(pid))
}

/// When a process began that has not ended (proc(5), `stat`).
fn began(dir: &Path) -> Option<u64> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // Its name may hold anything; the third field is behind it, and this one is the 22nd.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let began = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(began)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_beginning() {
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert_eq!(process_of(&format!("{}/ns/net", own.display())), Some(own.clone()));
        for other in ["/run/netns/a", "/proc/self/ns/net", "/proc/1x/ns/net", "proc/1/ns/net"] {
            assert_eq!(process_of(other), None);
        }
        let now = began(&own).unwrap();
        assert!(!Presence::Process { dir: own.clone(), began: now }.is_over());
        assert!(Presence::Process { dir: own, began: now + 1 }.is_over(), "another has its number");
        assert!(Presence::Process { dir: "/proc/4294967295".into(), began: now }.is_over());
    }

    #[test]
    fn another_namespace_at_the_path_is_the_end_of_the_former() {
        let path = PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
        let inode = NetNs::open(&path).unwrap().inode().unwrap();
        let at =
            |inode| Presence::Path { path: path.clone(), recorded: Some(Namespace { inode, cookie: None }) };
        assert!(!at(inode).is_over() && at(inode + 1).is_over());
        assert!(Presence::Path { path: "/run/netns/none".into(), recorded: None }.is_over());
    }
}
