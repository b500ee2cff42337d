//! Whether a container's namespace still exists, as far as an unprivileged process can see.
//!
//! `/proc/<pid>/ns/net` of another user's process, or of one with more capabilities, may not be
//! opened (ptrace(2), PTRACE_MODE_READ). But the start time of the process is readable, and a
//! later process with the same id has another.

use std::fs;
use std::path::{Path, PathBuf};

use sys::{NetNs, NetNsError};

use crate::record::Namespace;
use crate::zone::Attached;

/// Where a container's network namespace was, and how it is recognized.
#[derive(Debug, Default)]
pub enum Presence {
    /// Not checked, because it could not be recognized.
    #[default]
    Unknown,
    /// At a path that anybody may open.
    Path {
        /// The path.
        path: PathBuf,
        /// The namespace that was there.
        recorded: Option<Namespace>,
    },
    /// The namespace of a process.
    Process {
        /// The directory of the process in /proc.
        dir: PathBuf,
        /// Its start time, in clock ticks since boot.
        start_time: u64,
    },
}

impl Presence {
    /// The namespace of an attachment that has sockets there, as it is now.
    pub fn of(attached: &Attached) -> Self {
        let Some(path) = attached.netns.as_deref() else { return Self::Unknown };
        match process_of(path) {
            // Where /proc hides other users' processes (hidepid), the sockets stay
            // until DEL.
            Some(dir) => {
                start_time(&dir).map_or(Self::Unknown, |start_time| Self::Process { dir, start_time })
            }
            None => Self::Path { path: path.into(), recorded: attached.namespace },
        }
    }

    /// Whether the namespace is known to be gone. One that may not be inspected counts as
    /// there.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Process { dir, start_time: then } => start_time(dir) != Some(*then),
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

/// The directory of the process that a path refers to: `/proc/<pid>` of `/proc/<pid>/ns/net`.
fn process_of(path: &str) -> Option<PathBuf> {
    let pid = path.strip_prefix("/proc/")?.split('/').next()?;
    pid.parse::<u32>().ok()?;
    Some(Path::new("/proc").join(pid))
}

/// The start time of a process that has not exited (proc(5), `stat`).
fn start_time(dir: &Path) -> Option<u64> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    // The name may contain anything. The state is the third field, the start time the 22nd.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognized_by_its_start_time() {
        let own = PathBuf::from(format!("/proc/{}", std::process::id()));
        assert_eq!(process_of(&format!("{}/ns/net", own.display())), Some(own.clone()));
        for other in ["/run/netns/a", "/proc/self/ns/net", "/proc/1x/ns/net", "proc/1/ns/net"] {
            assert_eq!(process_of(other), None);
        }
        let now = start_time(&own).unwrap();
        assert!(!Presence::Process { dir: own.clone(), start_time: now }.is_gone());
        assert!(Presence::Process { dir: own, start_time: now + 1 }.is_gone(), "another process has the id");
        assert!(Presence::Process { dir: "/proc/4294967295".into(), start_time: now }.is_gone());
    }

    #[test]
    fn another_namespace_at_the_path_means_the_recorded_one_is_gone() {
        let path = PathBuf::from(format!("/proc/{}/ns/net", std::process::id()));
        let inode = NetNs::open(&path).unwrap().inode().unwrap();
        let at =
            |inode| Presence::Path { path: path.clone(), recorded: Some(Namespace { inode, cookie: None }) };
        assert!(!at(inode).is_gone() && at(inode + 1).is_gone());
        assert!(Presence::Path { path: "/run/netns/none".into(), recorded: None }.is_gone());
    }
}
