//! Queueing disciplines: only whether one was configured.

use libc::RTM_GETQDISC;
use rtnetlink::packet_route::tc::TcHeader;
use sys::Result;

use crate::Netlink;
use crate::attr::Malformed;
use crate::message::Request;

/// Reads the index and handle of a description.
fn read(payload: &[u8]) -> Result<(u32, u32), Malformed> {
    let field = |at: usize| payload.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    field(4).zip(field(8)).ok_or(Malformed("a queueing discipline is too short"))
}

impl Netlink {
    /// Whether the link has a queueing discipline other than the kernel's default, which has no
    /// handle.
    ///
    /// # Errors
    /// The kernel refused. Without traffic control in the kernel there is none.
    pub fn has_qdisc(&self, index: u32) -> Result<bool> {
        let listed =
            self.socket.dump(Request::of(RTM_GETQDISC, 0, &TcHeader::default()), |payload, found| {
                let (of, handle) = read(payload)?;
                if of == index && handle != 0 {
                    found.push(handle);
                }
                Ok(())
            });
        match listed {
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Ok(false),
            listed => listed
                .map(|found| !found.is_empty())
                .map_err(|refusal| refusal.on("list", "queueing disciplines")),
        }
    }
}
