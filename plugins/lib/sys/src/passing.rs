//! Packets between processes of one machine, with descriptors in them (unix(7), SCM_RIGHTS).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::calls;

/// A packet, as far as it was received.
#[derive(Debug)]
pub struct Packet {
    /// How many bytes of the buffer it filled; 0 at the end of the connection.
    pub length: usize,
    /// Whether nothing of it was cut off.
    pub whole: bool,
    /// The descriptors that came with it; they are closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives a packet that is there already.
///
/// # Errors
/// `WouldBlock` when there is none.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let (length, whole, descriptors) = calls::receive_with_descriptors(socket.as_fd(), buffer)?;
    Ok(Packet { length, whole, descriptors })
}
