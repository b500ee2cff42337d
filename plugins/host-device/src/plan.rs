//! The pieces of an attachment. Pure.

use cni::AddResult;
use host::Owner;
use host::piece::{self, Piece, Place, Up};
use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::config::Config;

/// The device, which is in the container before an IPAM plugin is called.
pub fn device(config: &Config, owner: &Owner, netns: &str, name: &str, mac: Option<Mac>) -> Piece {
    Piece::Device(piece::HostDevice {
        name: name.to_owned(),
        owner: owner.clone(),
        netns: netns.to_owned(),
        restore: config.restore_addresses,
        mac,
    })
}

/// The pieces after it, when its addresses are known; `own` are those of `result` on it. Without a
/// carrier, no duplicate can be detected: the kernel does it when there is one.
pub fn rest(ifname: &str, result: &AddResult, own: &[IpNetwork], dad: bool, carrier: bool) -> Vec<Piece> {
    let ipv6 = own.iter().any(IpNetwork::is_ipv6);
    let mut pieces = attach::addresses(ifname, own, dad);
    if ipv6 && dad {
        pieces.push(attach::without_start_delay(ifname));
    }
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.to_owned() }));
    if ipv6 && carrier {
        pieces.push(attach::settled(ifname, own, dad));
    }
    if !own.is_empty() {
        pieces.extend(attach::routes(ifname, result));
    }
    pieces
}
