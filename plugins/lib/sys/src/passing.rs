//! Packets between processes of one machine, with descriptors in them (unix(7), SCM_RIGHTS).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::calls;

/// A received packet.
#[derive(Debug)]
pub struct Packet {
    /// The bytes written to the buffer; 0 at the end of the connection.
    pub length: usize,
    /// Whether nothing was cut off.
    pub whole: bool,
    /// The descriptors in it, closed on exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives a packet that is already queued.
///
/// # Errors
/// `WouldBlock` when none is queued.
pub fn receive(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<Packet> {
    let (length, whole, descriptors) = calls::receive_with_descriptors(socket.as_fd(), buffer)?;
    Ok(Packet { length, whole, descriptors })
}
