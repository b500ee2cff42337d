//! The pieces of an attachment. Pure.

use cni::AddResult;
use host::Owner;
use host::piece::{DummyLink, Piece, Place, Up};
use ipnetwork::IpNetwork;
use netlink::Mac;

/// Every piece of the attachment, in the order of creation.
pub fn plan(
    owner: &Owner,
    mac: Option<Mac>,
    mtu: Option<u32>,
    result: &AddResult,
    own: &[IpNetwork],
) -> Vec<Piece> {
    let mut pieces = vec![link(owner, mac, mtu)];
    pieces.extend(rest(owner, result, own));
    pieces
}

/// The link, which exists before the IPAM plugin is called.
pub fn link(owner: &Owner, mac: Option<Mac>, mtu: Option<u32>) -> Piece {
    let name = owner.ifname.clone();
    Piece::Dummy(DummyLink { name, mac, mtu, label: owner.label(), index: owner.link_index() })
}

/// The pieces after the link; `own` are the addresses of `result` on it. A duplicate cannot be
/// detected where nobody answers.
pub fn rest(owner: &Owner, result: &AddResult, own: &[IpNetwork]) -> Vec<Piece> {
    let ifname = &owner.ifname;
    let mut pieces = attach::addresses(ifname, own, false);
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.clone() }));
    pieces.extend(attach::routes(ifname, result));
    if own.iter().any(IpNetwork::is_ipv6) {
        pieces.push(attach::settled(ifname, own, false));
    }
    pieces
}
