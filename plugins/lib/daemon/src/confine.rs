//! Confines a daemon with the kernel's means: Landlock and seccomp, each where the kernel has it.
//!
//! Reading needs no rule: a daemon reads what its user may read. Both filters survive execve(2), so
//! a successor works with the system calls allowed here.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use landlock::{ABI, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, path_beneath_rules};
use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// System calls of every daemon, and of a static executable before `main`.
const ALLOWED: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fchdir,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_ioctl,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_seccomp,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_statx,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// System calls that newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const ALLOWED_LEGACY: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_LEGACY: &[c_long] = &[];

/// Forbids to write, create or remove any file except /dev/null, and what is below the directories
/// (landlock(7)).
///
/// # Errors
/// The kernel supports Landlock, and refused.
pub fn forbid_file_writes(except: &[&Path]) -> Result<(), Box<dyn Error>> {
    let abi = ABI::V5;
    let rules = path_beneath_rules(["/dev/null"], AccessFs::WriteFile);
    Ruleset::default()
        .handle_access(AccessFs::from_write(abi))?
        .create()?
        .add_rules(rules)?
        .add_rules(path_beneath_rules(except, AccessFs::from_write(abi)))?
        .restrict_self()?;
    Ok(())
}

/// Makes the kernel refuse every system call that is neither in the list nor in `besides` with EPERM
/// (seccomp(2)): no process is started, nothing mounted or traced, and without `setns` in `besides`
/// no namespace is entered.
///
/// # Errors
/// The kernel has no seccomp filters, or refused.
pub fn forbid_other_system_calls(besides: &[c_long]) -> Result<(), Box<dyn Error>> {
    let allowed = ALLOWED.iter().chain(ALLOWED_LEGACY).chain(besides);
    let allowed: BTreeMap<c_long, _> = allowed.map(|number| (*number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter =
        SeccompFilter::new(allowed, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// Runs `work` in a thread: both filters apply to the calling thread only.
    fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn file_writes_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine");
        fs::write(&path, "").unwrap();
        let (confined, here) = (path.clone(), dir.path().to_owned());
        in_a_thread(move || {
            nix::sys::prctl::set_no_new_privs().unwrap();
            forbid_file_writes(&[]).unwrap();
            let refused =
                |done: io::Result<()>| assert_eq!(done.unwrap_err().raw_os_error(), Some(libc::EACCES));
            refused(File::options().write(true).open(&confined).map(drop));
            refused(File::create(here.join("new")).map(drop));
            refused(fs::remove_file(&confined));
            refused(fs::create_dir(here.join("dir")));
            assert_eq!(fs::read(&confined).unwrap(), b"");
            File::options().write(true).open("/dev/null").unwrap();
        });
        fs::write(&path, "others may").unwrap();
    }

    #[test]
    fn system_calls_outside_the_list_are_refused() {
        in_a_thread(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            forbid_other_system_calls(&[]).unwrap();
            assert_eq!(unshare(CloneFlags::CLONE_NEWNET), Err(Errno::EPERM));
            assert_eq!(nix::sys::signal::kill(nix::unistd::getpid(), None), Err(Errno::EPERM));
            assert!(std::thread::Builder::new().spawn(|| {}).is_err());
            assert!(File::open("/dev/null").is_ok());
        });
    }
}
