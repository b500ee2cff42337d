//! The points at which a plugin can be hit: its system calls that change something.

use std::collections::BTreeMap;
use std::path::Path;

/// The system calls that strace watches. A leading `?` lets strace skip one that this architecture
/// lacks.
const WATCHED: &str = "trace=sendto,sendmsg,sendmmsg,write,pwrite64,writev,openat,?open,?creat,linkat,?link,symlinkat,?symlink,\
    renameat,renameat2,?rename,unlinkat,?unlink,mkdirat,?mkdir,?rmdir,ftruncate,fallocate,fchmod,fchmodat,?chmod,fchown,\
    fchownat,?chown,?lchown,utimensat,setns,unshare,mount,flock,fsync,fdatasync,ioctl,clone,?clone3,?vfork,?fork";

/// Those of them that send messages.
const MESSAGES: &str = "trace=sendto,sendmsg,sendmmsg";

/// The system calls at which a plugin is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Every call that changes something.
    All,
    /// Its messages to the kernel.
    Messages,
}

impl Extent {
    /// Its name, in jobs.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Messages => "messages",
        }
    }

    /// The extent of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::All, Self::Messages].into_iter().find(|known| known.name() == name)
    }
}

/// The command prefix for strace to log the points to a file and to apply `inject` at one of them
/// (`strace -e inject=`). A child process is no longer traced once it executes another program.
///
/// For errors at messages, only these are traced: stops are expensive under emulation. A child
/// program is then hit too, if it sends messages. Signals get lost that way (strace 6.1), so they
/// use the full trace.
pub fn strace(log: &Path, extent: Extent, inject: Option<String>) -> Vec<String> {
    let signals = inject.as_ref().is_some_and(|inject| inject.contains(":signal="));
    let which: &[&str] = match extent {
        Extent::All => &["-b", "execve", "-e", WATCHED],
        Extent::Messages if signals => &["-b", "execve", "-e", MESSAGES],
        Extent::Messages => &["--seccomp-bpf", "-e", MESSAGES],
    };
    let words = [&["strace", "-f", "-qq", "-s", "0"], which].concat();
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    words.extend(inject.into_iter().flat_map(|inject| ["-e".to_owned(), inject]));
    words.extend(["-o".to_owned(), log.display().to_string()]);
    words
}

/// One call of a system call, counted as strace's `when=` does: per process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The system call's name.
    pub syscall: String,
    /// The number of the call, from 1.
    pub nth: usize,
}

impl Point {
    /// Whether it is a message, to the kernel or to another process.
    pub fn is_message(&self) -> bool {
        self.syscall.starts_with("send")
    }

    /// A realistic error for this call.
    pub fn errno(&self) -> &'static str {
        match self.syscall.as_str() {
            "sendto" | "sendmsg" | "sendmmsg" => "ENOBUFS",
            "write" | "pwrite64" | "writev" | "openat" | "open" | "creat" | "fallocate" => "ENOSPC",
            "mkdir" | "mkdirat" | "linkat" | "link" | "symlinkat" | "symlink" => "ENOSPC",
            "clone" | "clone3" | "vfork" | "fork" => "EAGAIN",
            "setns" | "unshare" | "mount" | "fchmod" | "fchmodat" | "chmod" | "fchown" | "fchownat"
            | "chown" | "lchown" => "EPERM",
            "flock" => "ENOLCK",
            _ => "EIO",
        }
    }
}

/// The points in a log of `strace -f -o`: every watched call except `open`s that create nothing and
/// ioctls but those that change a TAP device.
pub fn points(log: &str) -> Vec<Point> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut points = vec![];
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let Some((syscall, rest)) = call.trim_start().split_once('(') else { continue };
        if !syscall.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue; // "<... write resumed>", "+++ exited"
        }
        let nth = counts.entry((pid, syscall)).or_default();
        *nth += 1;
        let creates =
            ["O_CREAT", "O_TMPFILE", "O_TRUNC", "O_WRONLY", "O_RDWR"].iter().any(|flag| rest.contains(flag));
        let changes = match syscall {
            "open" | "openat" => creates,
            "ioctl" => rest.contains("TUNSET"),
            _ => true,
        };
        if changes {
            points.push(Point { syscall: syscall.to_owned(), nth: *nth });
        }
    }
    points.sort();
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::{Point, points};

    #[test]
    fn calls_are_counted_per_process_and_only_changes_are_points() {
        let log = "\
12 openat(AT_FDCWD, \"/etc/x\", O_RDONLY|O_CLOEXEC) = 3
12 openat(AT_FDCWD, \"/run/x\", O_RDWR|O_CREAT, 0600) = 3
12 sendto(3, [[\"x\"]], 20, 0, NULL, 0) = 20
13 sendto(3, [[\"x\"]], 20, 0, NULL, 0 <unfinished ...>
13 <... sendto resumed>) = 20
12 sendto(3, [[\"x\"]], 20, 0, NULL, 0) = 20
12 ioctl(3, NS_GET_NSTYPE) = 1073741824 (CLONE_NEWNET)
12 ioctl(7, TUNSETIFF, 0x7ffd82cfadb0) = 0
12 +++ exited with 0 +++
";
        let point = |syscall: &str, nth| Point { syscall: syscall.into(), nth };
        assert_eq!(
            points(log),
            [point("ioctl", 2), point("openat", 2), point("sendto", 1), point("sendto", 2)]
        );
    }
}
