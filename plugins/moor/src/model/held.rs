//! Namespaces that no process is in and no mount of this mount namespace shows: a descriptor, a
//! thread, or a mount of another mount namespace holds them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;

use super::NamespaceId;
use super::kernel::MOUNTS_MAX;
use super::mounts::namespace_mounts;
use super::processes::{is_hidden, pids};

/// linux/proc_ns.h, PROC_DYNAMIC_FIRST: inodes of namespaces begin here.
const NAMESPACE_INODES: u64 = 0xF000_0000;
/// The longest description of a descriptor that is read, in bytes.
const FDINFO_MAX: u64 = 16 * 1024;

/// What is held, and what could not be looked at.
#[derive(Debug, Default)]
pub struct Held {
    /// Paths that lead to namespaces, one for each.
    pub paths: Vec<PathBuf>,
    /// How many processes this process may not look at.
    pub hidden: usize,
}

/// Looks for namespaces that are not among the known ones.
pub fn read(mut known: HashSet<NamespaceId>, device: u64) -> Held {
    let mut held = Held::default();
    let mut mounts: HashSet<u64> = inode(Path::new("/proc/self/ns/mnt")).into_iter().collect();
    for pid in pids() {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let mut add = |path: PathBuf| {
            let Ok(meta) = fs::metadata(&path) else { return };
            let id = NamespaceId { device: meta.dev(), inode: meta.ino() };
            if id.device == device && known.insert(id) {
                held.paths.push(path);
            }
        };
        match fs::read_dir(process.join("fd")) {
            Ok(descriptors) => {
                descriptors.flatten().filter_map(|one| of_descriptor(&process, &one)).for_each(&mut add)
            }
            Err(error) => {
                held.hidden += usize::from(is_hidden(pid, &error));
                continue;
            }
        }
        let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten();
        threads.skip(1).for_each(|thread| add(thread.path().join("ns/net")));
        if inode(&process.join("ns/mnt")).is_some_and(|inode| mounts.insert(inode)) {
            let text = files::read(&process.join("mountinfo"), MOUNTS_MAX).unwrap_or_default();
            for mount in namespace_mounts(&String::from_utf8_lossy(&text)) {
                add(process.join("root").join(mount.path.strip_prefix("/").unwrap_or(&mount.path)));
            }
        }
    }
    held
}

/// The path of a descriptor that may be one of a namespace. A descriptor of a file that is reached
/// over a network is not followed: nobody knows when its server answers.
fn of_descriptor(process: &Path, descriptor: &fs::DirEntry) -> Option<PathBuf> {
    let path = descriptor.path();
    let target = fs::read_link(&path).ok()?;
    let text = target.to_str()?;
    // The kernel names it by the mount it was opened through.
    let is_one = text.starts_with("net:[")
        || text.starts_with('/')
            && !text.starts_with("/dev/")
            && described_inode(&process.join("fdinfo").join(descriptor.file_name()))? >= NAMESPACE_INODES;
    is_one.then_some(path)
}

/// The inode of a descriptor's file (since Linux 5.14).
fn described_inode(fdinfo: &Path) -> Option<u64> {
    let text = files::read(fdinfo, FDINFO_MAX).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    text.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok())
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).map(|meta| meta.ino()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_of_a_namespace_is_found() {
        let _held = fs::File::open("/proc/self/ns/net").unwrap();
        let own = fs::metadata("/proc/self/ns/net").unwrap();
        let is_own = |path: &PathBuf| inode(path) == Some(own.ino());
        let found = read(HashSet::new(), own.dev());
        assert!(found.paths.iter().any(is_own), "{found:?}");
        let known = HashSet::from([NamespaceId { device: own.dev(), inode: own.ino() }]);
        assert!(!read(known, own.dev()).paths.iter().any(is_own));
    }
}
