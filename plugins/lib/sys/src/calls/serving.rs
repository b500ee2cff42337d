//! System calls of a server: batches of datagrams, descriptors in packets, fewer capabilities.
//!
//! Messages go to the kernel by number, past the C library: that of musl sends a batch one by one,
//! and limits the control data of a message to 1,024 bytes. The types of libc have the kernel's
//! layout on 64-bit machines as long as every byte that is not set is zero: musl declares lengths
//! as 32 bits, with padding.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::{io, mem, ptr};

use super::check;

/// The most datagrams that one call moves.
pub(crate) const BATCH: usize = 32;

/// A socket address as the kernel writes it (`struct sockaddr_in`, `struct sockaddr_in6`).
pub(crate) type RawAddress = [u32; 8];
/// Room for the control messages of a datagram.
pub(crate) type RawControl = [u64; 8];

/// What the kernel reports about a datagram besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Head {
    pub(crate) length: usize,
    pub(crate) truncated: bool,
    pub(crate) control: usize,
}

/// Receives up to [`BATCH`] datagrams that are already queued, each into its own `size` bytes of
/// `data`. Neither std nor nix does this without an allocation per datagram.
pub(crate) fn receive_many(
    socket: BorrowedFd<'_>,
    data: &mut [u8],
    size: usize,
    peers: &mut [RawAddress; BATCH],
    controls: &mut [RawControl; BATCH],
    heads: &mut [Head; BATCH],
) -> io::Result<usize> {
    let mut slots = [const { mem::MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { mem::MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH];
    let mut count = 0;
    let each = data.chunks_exact_mut(size.max(1)).zip(peers).zip(controls.iter_mut());
    for (((data, peer), control), (slot, message)) in each.zip(slots.iter_mut().zip(&mut messages)) {
        let slot = slot.write(libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() });
        // SAFETY: all fields are numbers and pointers, for which zero is a valid value.
        let message = unsafe { message.assume_init_mut() };
        message.msg_hdr.msg_name = peer.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = socklen(mem::size_of::<RawAddress>());
        message.msg_hdr.msg_iov = slot;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = mem::size_of::<RawControl>() as _;
        count += 1;
    }
    let first: *mut libc::mmsghdr = messages.as_mut_ptr().cast();
    // SAFETY: the first `count` messages are initialised; each points at an address, a control
    // buffer, and an iovec that points at a piece of `data`, all exclusively borrowed or owned here
    // until after the call, with their true lengths.
    let result = unsafe {
        let no_limit = ptr::null_mut::<libc::timespec>();
        libc::syscall(libc::SYS_recvmmsg, socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT, no_limit)
    };
    let received = usize::try_from(check(result)?).unwrap_or(0);
    for (head, message) in heads.iter_mut().zip(&messages).take(received) {
        // SAFETY: as above, and the kernel wrote numbers and pointers.
        let message = unsafe { message.assume_init_ref() };
        head.length = usize::try_from(message.msg_len).unwrap_or(0).min(size);
        head.truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
        let control = message.msg_hdr.msg_controllen as usize;
        head.control = control.min(mem::size_of::<RawControl>());
    }
    Ok(received)
}

/// Datagrams to one address that the kernel handles as one until the device (UDP_SEGMENT).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Train {
    /// How many; at least one.
    pub(crate) count: usize,
    /// The control message with the segment size, and its length in bytes; 0 for a single datagram.
    pub(crate) control: RawControl,
    pub(crate) control_length: usize,
}

/// Sends up to [`BATCH`] datagrams. `order` lists their numbers in the order in which `trains`
/// count them: datagram n starts at n times `size` of `data`, has `lengths[n]` bytes, and goes to
/// `peers[n]`, which is the same for all of a train. Returns how many trains were sent; an error is
/// that of the first train.
pub(crate) fn send_many(
    socket: BorrowedFd<'_>,
    data: &[u8],
    size: usize,
    order: &[usize],
    lengths: &[usize; BATCH],
    peers: &[RawAddress; BATCH],
    trains: &[Train],
) -> io::Result<usize> {
    let mut slots = [const { mem::MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { mem::MaybeUninit::<libc::mmsghdr>::zeroed() }; BATCH];
    let (mut rest_of_slots, mut rest_of_order) = (&mut slots[..], order);
    let mut count = 0;
    for (train, message) in trains.iter().zip(&mut messages) {
        if rest_of_order.len() < train.count || rest_of_slots.len() < train.count {
            break;
        }
        let (mine, others) = rest_of_order.split_at(train.count);
        let (room, further) = rest_of_slots.split_at_mut(train.count);
        (rest_of_order, rest_of_slots) = (others, further);
        for (n, slot) in mine.iter().zip(&mut *room) {
            let held = data.get(n * size..).unwrap_or_default();
            let bytes = held.get(..lengths.get(*n).copied().unwrap_or(0)).unwrap_or_default();
            slot.write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        }
        let peer = mine.first().and_then(|n| peers.get(*n)).unwrap_or(&peers[0]);
        // SAFETY: all fields are numbers and pointers, for which zero is a valid value.
        let message = unsafe { message.assume_init_mut() };
        message.msg_hdr.msg_name = peer.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_namelen = socklen(mem::size_of::<libc::sockaddr_in6>());
        message.msg_hdr.msg_iov = room.as_mut_ptr().cast();
        message.msg_hdr.msg_iovlen = train.count as _;
        if train.control_length > 0 {
            message.msg_hdr.msg_control = train.control.as_ptr().cast_mut().cast();
            message.msg_hdr.msg_controllen = train.control_length.min(mem::size_of::<RawControl>()) as _;
        }
        count += 1;
    }
    let first: *mut libc::mmsghdr = messages.as_mut_ptr().cast();
    // SAFETY: the first `count` messages are initialised; each points at an address, at as many
    // initialised iovecs as its count, which point at pieces of `data`, and at most one control
    // message; all outlive the call, the lengths are within theirs, and the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_sendmmsg, socket.as_raw_fd(), first, count, libc::MSG_DONTWAIT) };
    Ok(usize::try_from(check(result)?).unwrap_or(0))
}

fn socklen(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).unwrap_or(0)
}

/// Reads a socket option of variable length, which nix does not offer, and returns its length.
pub(crate) fn socket_option(
    socket: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &mut [u64],
) -> io::Result<usize> {
    let mut length = socklen(mem::size_of_val(value));
    // SAFETY: the pointer and length are those of `value`, and any bytes are valid in it.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length)
    };
    check(result).map(|_| usize::try_from(length).unwrap_or(0).min(mem::size_of_val(value)))
}

/// Takes ownership of descriptors that the kernel has just installed in this process, from a
/// control message (SCM_RIGHTS).
fn adopt(numbers: &[RawFd]) -> Vec<OwnedFd> {
    numbers
        .iter()
        .map(|number| {
            // SAFETY: called once, only with the numbers in a control message: no other code owns
            // them.
            unsafe { OwnedFd::from_raw_fd(*number) }
        })
        .collect()
}

/// The most descriptors in one packet (net/scm.h, SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 253;

/// Receives a packet and the descriptors in it. When some descriptors did not fit, nix returns none
/// of them, although the others are already open in this process.
pub(crate) fn receive_with_descriptors(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> io::Result<(usize, bool, Vec<OwnedFd>)> {
    receive_with_room(socket, bytes, DESCRIPTORS_MAX)
}

/// As [`receive_with_descriptors`], with room for `most` descriptors.
fn receive_with_room(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    most: usize,
) -> io::Result<(usize, bool, Vec<OwnedFd>)> {
    let most = u32::try_from(most * mem::size_of::<RawFd>()).unwrap_or(0);
    // SAFETY: only computes with numbers.
    let space = usize::try_from(unsafe { libc::CMSG_SPACE(most) }).unwrap_or(0);
    // Control messages are aligned to words.
    let mut control = vec![0u64; space.div_ceil(mem::size_of::<u64>())];
    let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: zero is a valid value for every field: numbers, and pointers that are not followed.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
    message.msg_control = control.as_mut_ptr().cast();
    // The type of lengths is the C library's: usize, or socklen_t with musl.
    message.msg_controllen = space as _;
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the message points at buffers with the given lengths, all of which live across the
    // call.
    let length =
        check(unsafe { libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut message, flags) })?;
    #[allow(clippy::unnecessary_cast, reason = "the type differs between C libraries")]
    let filled = (message.msg_controllen as usize).min(space);
    let whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    let control: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).take(filled).collect();
    Ok((usize::try_from(length).unwrap_or(0), whole, adopt(&numbers(&control))))
}

/// Returns the descriptors in control messages (cmsg(3)). Each message is a length (header
/// included), a level, a type, and data; the next one begins at a multiple of a word.
fn numbers(mut control: &[u8]) -> Vec<RawFd> {
    const HEADER: usize = 16;
    let mut all = Vec::new();
    while let Some((length, rest)) = control.split_first_chunk() {
        let length = usize::from_ne_bytes(*length);
        let (Some(data), Some((level, rest))) = (control.get(HEADER..length), rest.split_first_chunk())
        else {
            break;
        };
        let Some((kind, _)) = rest.split_first_chunk() else { break };
        if (i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind)) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            all.extend(data.as_chunks().0.iter().map(|number| RawFd::from_ne_bytes(*number)));
        }
        control = control.get(length.next_multiple_of(mem::size_of::<usize>())..).unwrap_or_default();
    }
    all
}

/// linux/capability.h: 64 bits of capabilities, in two words.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Drops all capabilities outside the mask from the permitted, effective and inheritable sets.
/// Neither libc nor nix offers this call.
pub(crate) fn drop_capabilities_outside(mask: u64) -> io::Result<()> {
    let header = [CAPABILITY_VERSION_3, 0];
    let mut words = [0u32; 6];
    // SAFETY: the header is the two-word struct that the call expects, and version 3 writes two
    // structs of three words.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), words.as_mut_ptr()) };
    check(result)?;
    let [_, permitted_low, _, _, permitted_high, _] = words;
    let low = permitted_low & u32::try_from(mask & 0xffff_ffff).unwrap_or(0);
    let high = permitted_high & u32::try_from(mask >> 32).unwrap_or(0);
    let words = [low, low, low, high, high, high];
    // SAFETY: as above, and this call only reads.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) };
    check(result).map(|_| ())
}

/// Makes a capability that is permitted and inheritable survive an exec by a user other than root
/// (capabilities(7), ambient set). EPERM when it is not held.
pub(crate) fn raise_ambient(capability: u32) -> io::Result<()> {
    let (raise, capability) = (libc::PR_CAP_AMBIENT_RAISE, libc::c_ulong::from(capability));
    // SAFETY: this option reads numbers only; the last two have to be zero.
    check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, 0, 0) }).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::IoSlice;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use nix::sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
    };

    use super::*;

    /// Counts this process's open descriptors of the file with that inode.
    fn open_of(inode: u64) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        all.filter(|entry| std::fs::metadata(entry.path()).is_ok_and(|meta| meta.ino() == inode)).count()
    }

    #[test]
    fn descriptors_that_fit_are_owned_when_others_do_not() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (here, there) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let file = tempfile::tempfile().unwrap();
        let inode = file.metadata().unwrap().ino();
        let other = file.try_clone().unwrap();
        // Control messages are aligned, so room for one is room for two.
        for (room, whole) in [(1, false), (3, true), (253, true)] {
            let fds = [file.as_raw_fd(), other.as_raw_fd(), file.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&fds)];
            sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(b"ab")], &rights, MsgFlags::empty(), None)
                .unwrap();
            let mut bytes = [0; 8];
            let (length, was_whole, received) = receive_with_room(there.as_fd(), &mut bytes, room).unwrap();
            assert_eq!((length, was_whole), (2, whole), "room for {room}");
            assert_eq!(received.len(), if whole { 3 } else { 2 });
            let files: Vec<File> = received.into_iter().map(File::from).collect();
            assert!(files.iter().all(|file| file.metadata().unwrap().ino() == inode));
            drop(files);
            assert_eq!(open_of(inode), 2, "room for {room}: some stayed open");
        }
        assert!(receive_with_descriptors(there.as_fd(), &mut [0; 8]).is_err(), "there is no more");
    }
}
