//! System calls that neither std nor nix nor netlink-sys offers safely: the only unsafe code in the
//! tree. One call per block; every function here is safe to call with any arguments.
#![allow(unsafe_code)]

mod arena;
mod attribute;
mod pidfd;
mod ring;
mod serving;
pub(crate) mod tun;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub use arena::OneShot;
pub(crate) use arena::retire_one_shot_arena;
pub(crate) use attribute::{get_attribute, set_attribute};
pub(crate) use pidfd::{pidfd_open, pidfd_send_signal};
pub(crate) use ring::held_by_ring;
pub(crate) use serving::*;

/// linux/sockios.h: the network namespace of a socket.
const SIOCGSKNS: libc::Ioctl = 0x894C;

fn check(result: impl Into<i64>) -> io::Result<i64> {
    let result = result.into();
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Returns `N` bytes (up to 256) from the kernel's random generator. Never blocks, not even early
/// at boot (GRND_INSECURE, Linux 5.6): addresses need to differ, not to be secret.
pub(crate) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the pointer and length are those of `bytes`, which lives across the call and may hold
    // any bytes.
    let result = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_INSECURE) };
    // The kernel never shortens requests of up to 256 bytes.
    check(i64::try_from(result).unwrap_or(-1)).map(|_| bytes)
}

/// Returns the `CLONE_NEW*` flag for the kind of namespace that `fd` is (ioctl NS_GET_NSTYPE,
/// linux/nsfs.h); ENOTTY when `fd` is not a namespace.
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> io::Result<i32> {
    // SAFETY: `fd` is open for the lifetime of the borrow, and this request takes no pointer.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    check(result).map(|_| result)
}

/// linux/socket.h, with the type of `struct sockaddr_ll`'s field.
const AF_PACKET: u16 = 17;

/// Binds a packet socket to a link: it then receives that link's frames of `protocol`, an `ETH_P_*`
/// of linux/if_ether.h (packet(7)).
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, protocol: u16, index: i32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the socket is open for the lifetime of the borrow, and the address is borrowed across
    // the call, with its own length.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    check(result).map(drop)
}

/// An instruction of a filter of packets: operation, jumps, and a number (`struct sock_filter`,
/// linux/filter.h).
pub(crate) type FilterStep = (u16, u8, u8, u32);

/// Makes a socket receive only packets that the filter accepts (SO_ATTACH_FILTER, socket(7)).
pub(crate) fn attach_filter(socket: BorrowedFd<'_>, steps: &[FilterStep]) -> io::Result<()> {
    let mut steps: Vec<libc::sock_filter> =
        steps.iter().map(|&(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k }).collect();
    let count = u16::try_from(steps.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: count, filter: steps.as_mut_ptr() };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the program points at as many steps as it states; both live across the call, which
    // copies and checks them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    check(result).map(drop)
}

/// Duplicates a descriptor that this process inherited, closed on exec; the original stays open.
pub(crate) fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only; for a number that is not open, the kernel returns EBADF.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    check(fd)?;
    // SAFETY: the kernel has just created this descriptor for us, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the network namespace that a socket belongs to (needs CAP_NET_ADMIN there).
pub(crate) fn socket_namespace(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the socket is open for the lifetime of the borrow, and this request takes no pointer.
    let fd = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) };
    check(fd)?;
    // SAFETY: the kernel has just created this descriptor for us, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns the cookie of the network namespace that a socket belongs to. The kernel does not reuse
/// it before the next boot (SO_NETNS_COOKIE, Linux 5.14; ENOPROTOOPT before).
pub(crate) fn netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = [0];
    socket_option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, &mut cookie).map(|_| cookie[0])
}

/// Restores a signal's default action if it is ignored: child programs inherit ignored signals.
pub(crate) fn restore_default_signal(signal: i32) {
    // SAFETY: all-zero bytes are valid for every field (numbers, a bit set, an optional pointer).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: only queries, and writes a whole struct to a local that lives across the call.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if asked == 0 && action.sa_sigaction == libc::SIG_IGN {
        // SAFETY: installs no function of this program.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// linux/close_range.h (Linux 5.11).
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

/// Marks all descriptors from `first` on as close-on-exec; EINVAL before Linux 5.11.
pub(crate) fn close_at_exec(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers only, and closes nothing in this program.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
    check(result).map(drop)
}

/// Marks one descriptor as close-on-exec.
pub(crate) fn close_one_at_exec(fd: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; for a number that is not open, the kernel returns EBADF.
    let result = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(result).map(drop)
}

/// Has the child process of `command` call `prepare` before it executes the program. `prepare` must
/// need no lock: one of another thread would never be released in the child.
pub(crate) fn prepare_in_child(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: plugins have one thread, so the child's memory is a whole copy, and `prepare` may
    // allocate and open files.
    unsafe { command.pre_exec(prepare) };
}
