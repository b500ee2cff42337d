//! Many requests in few system calls.

use netlink::message::{Messages, NLM_F_ACK, NLMSG_DONE, NLMSG_ERROR, Refusal, Request};
use netlink::socket::Socket;

/// Requests of one system call. The kernel answers each refused one, and its answers to all of them
/// must fit the socket's receive buffer; so must the events that they cause that of the listener.
pub(super) const AT_ONCE: usize = 128;

/// Sends requests, at most [`AT_ONCE`], and returns the refusals with their positions. Only the last
/// request asks for an acknowledgement: the kernel handles them in order, and answers a refused one
/// unasked.
///
/// # Errors
/// The kernel did not take the message, or did not answer in time.
pub(super) fn send(socket: &Socket, requests: Vec<Request>) -> Result<Vec<(usize, Refusal)>, Refusal> {
    let count = u32::try_from(requests.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Ok(Vec::new());
    }
    let first = socket.reserve(count);
    let last = first.wrapping_add(count - 1);
    let mut bytes = Vec::with_capacity(requests.len() * 64);
    for (mut request, sequence) in requests.into_iter().zip((0..count).map(|at| first.wrapping_add(at))) {
        if sequence == last {
            request.flag(NLM_F_ACK);
        }
        bytes.extend(request.finish(sequence)?);
    }
    socket.send(&bytes)?;
    let mut refused = Vec::new();
    let mut buffer = Vec::new();
    loop {
        socket.receive(&mut buffer)?;
        for message in Messages::new(&buffer) {
            let message = message?;
            let at = message.sequence.wrapping_sub(first);
            // A late answer to an earlier request that timed out.
            if at >= count || !matches!(message.kind, NLMSG_ERROR | NLMSG_DONE) {
                continue;
            }
            if let Err(refusal) = message.outcome() {
                refused.push((usize::try_from(at).unwrap_or(usize::MAX), refusal));
            }
            if message.sequence == last {
                return Ok(refused);
            }
        }
    }
}
