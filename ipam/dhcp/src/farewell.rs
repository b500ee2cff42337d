//! What a client sends about an address that it does not use any more: a release, or that another
//! host has it.

use std::time::{Duration, Instant};

use sys::wait;

use crate::ask::Fields;
use crate::frame::{self, End};
use crate::message::Kind;
use crate::terms::Terms;
use crate::v6::{self, Message};
use crate::wire::{DATA_MAX, Place};

/// How often a server of DHCPv6 gets the message, and how long it has for each answer. DEL does not
/// wait for a server that is away.
const TRIES: u32 = 2;
const ANSWER: Duration = Duration::from_millis(300);

/// Gives an address back.
///
/// # Errors
/// The kernel refused.
pub fn release(place: &Place, terms: &Terms) -> sys::Result<()> {
    place.set_up()?;
    match terms {
        Terms::V4 { ask, grant } => {
            // As a host with the address sends it, so that a server at an ordinary socket receives
            // it. There is no answer.
            let fields = Fields {
                xid: sys::random::bytes().map_or(0, u32::from_ne_bytes),
                ciaddr: Some(grant.address),
                server: Some(grant.server),
                ..Fields::default()
            };
            let mac = place.mac()?;
            let from = End { mac, ip: grant.address };
            let message = ask.message(Kind::Release, mac, &fields);
            send(place, &frame::encode(from, grant.server_end(), &message))
        }
        Terms::V6 { ask, grant } => inform(place, ask, grant, v6::Kind::Release),
    }
}

/// Reports to the server that another host has the address.
///
/// # Errors
/// The kernel refused.
pub fn decline(place: &Place, terms: &Terms) -> sys::Result<()> {
    match terms {
        Terms::V4 { ask, grant } => {
            let fields = Fields {
                xid: sys::random::bytes().map_or(0, u32::from_ne_bytes),
                requested: Some(grant.address),
                server: Some(grant.server),
                ..Fields::default()
            };
            let mac = place.mac()?;
            let from = End { mac, ip: std::net::Ipv4Addr::UNSPECIFIED };
            send(place, &frame::encode(from, End::EVERYBODY, &ask.message(Kind::Decline, mac, &fields)))
        }
        Terms::V6 { ask, grant } => inform(place, ask, grant, v6::Kind::Decline),
    }
}

fn send(place: &Place, frame: &[u8]) -> sys::Result<()> {
    let sent = place.wire()?.send_once(frame);
    sent.map_err(|cause| sys::Error::new("send a DHCP message on", place.link.name.clone(), cause))
}

/// Sends a message of DHCPv6 until the server has received it, or it seems to be away.
fn inform(place: &Place, ask: &v6::Ask, grant: &v6::Grant, kind: v6::Kind) -> sys::Result<()> {
    // A link that was down gets its address anew.
    let soon = Instant::now() + ANSWER;
    let _ = place.netlink.wait_for_addresses(place.link.index, &[], true, soon);
    if place.link_local()?.is_none() {
        // Nobody can be reached: the lease ends by itself.
        return Ok(());
    }
    let fail = |cause| sys::Error::new("send a DHCPv6 message on", place.link.name.clone(), cause);
    let (port, xid) = (place.port()?, v6::client::number());
    for tried in 0..TRIES {
        let elapsed = u16::try_from(ANSWER.as_millis() / 10).unwrap_or(0) * u16::try_from(tried).unwrap_or(0);
        port.send(&ask.message(kind, xid, elapsed, Some(grant))).map_err(fail)?;
        let deadline = Instant::now() + ANSWER;
        let mut data = [0; DATA_MAX];
        while wait::readable(&port, deadline).map_err(fail)? && Instant::now() < deadline {
            let Some(length) = port.receive(&mut data).map_err(fail)? else { continue };
            let answer = data.get(..length).and_then(Message::from_bytes);
            if answer.is_some_and(|answer| answer.kind == v6::Kind::Reply && answer.xid == xid) {
                return Ok(());
            }
        }
    }
    Ok(())
}
