//! The processes of this host: one pass over `/proc`.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::files;

use super::NamespaceId;
use super::cgroup::{Contained, contained};

/// The longest list of cgroups that is read, in bytes.
const CGROUP_MAX: u64 = 64 * 1024;
/// linux/proc_ns.h, PROC_PID_INIT_INO: the inode of the initial pid namespace.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its network namespace.
    pub namespace: NamespaceId,
    /// Its container.
    pub container: Option<Contained>,
}

/// The processes that can be seen.
#[derive(Debug, Default)]
pub struct Processes {
    /// By pid.
    pub by_pid: HashMap<u32, Process>,
    /// How many processes this process may not look at.
    pub hidden: usize,
    /// Whether `/proc` lists every process of the machine.
    pub is_whole: bool,
}

impl Processes {
    /// Looks at each process once. One that ends meanwhile is skipped.
    pub fn read() -> Self {
        let mut found = Self { is_whole: sees_the_machine(), ..Self::default() };
        for pid in pids() {
            match fs::metadata(format!("/proc/{pid}/ns/net")) {
                Ok(meta) => {
                    let text = files::read(Path::new(&format!("/proc/{pid}/cgroup")), CGROUP_MAX);
                    let container = text.ok().and_then(|text| contained(&String::from_utf8_lossy(&text)));
                    let namespace = NamespaceId { device: meta.dev(), inode: meta.ino() };
                    found.by_pid.insert(pid, Process { namespace, container });
                }
                Err(error) => found.hidden += usize::from(is_hidden(pid, &error)),
            }
        }
        found
    }

    /// The name of a process's program.
    pub fn program(pid: u32) -> Option<String> {
        let name = files::read(Path::new(&format!("/proc/{pid}/comm")), CGROUP_MAX).ok()?;
        Some(String::from_utf8_lossy(&name).trim_end().to_owned())
    }
}

/// The pids of the processes that `/proc` lists.
pub fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether this error is for lack of a right, and not of the process: one that has ended, and that
/// nobody has waited for, is refused too, and is in no namespace.
pub(super) fn is_hidden(pid: u32, error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied && !has_ended(pid)
}

fn has_ended(pid: u32) -> bool {
    let stat = files::read(Path::new(&format!("/proc/{pid}/stat")), CGROUP_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&stat);
    // `pid (program) state ...`: the program's name may hold anything.
    text.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// Whether `/proc` is that of the initial pid namespace, and shows what is in it: its first process
/// is there.
fn sees_the_machine() -> bool {
    fs::metadata("/proc/1/ns/pid").is_ok_and(|meta| meta.ino() == INITIAL_PID_NAMESPACE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_in_its_own_namespace() {
        let processes = Processes::read();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let process = &processes.by_pid[&std::process::id()];
        assert_eq!(process.namespace, NamespaceId { device: own.dev(), inode: own.ino() });
    }
}
