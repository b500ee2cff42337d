//! The plan: all pieces of an attachment. Pure: it uses no kernel, no clock and no random numbers.

use cni::AddResult;
use host::Owner;
use host::piece::{Piece, Place, TapContext, TapDevice, Up};
use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::config::Config;

/// The name of the plugin.
pub const DRIVER: &str = "tap";
/// The command of the process that has the device's SELinux context.
pub const CREATE: &str = "create-device";

/// Every piece of the attachment, in the order of creation: [`device`], then [`rest`].
pub fn plan(
    config: &Config,
    owner: &Owner,
    mac: Option<Mac>,
    result: &AddResult,
    own: &[IpNetwork],
) -> Vec<Piece> {
    let mut pieces = vec![device(config, owner, mac)];
    pieces.extend(rest(owner, result, own));
    pieces
}

/// The device, which exists before the IPAM plugin is called.
pub fn device(config: &Config, owner: &Owner, mac: Option<Mac>) -> Piece {
    Piece::Tap(TapDevice {
        name: owner.ifname.clone(),
        mac,
        mtu: config.mtu,
        owner: config.owner,
        group: config.group,
        multi_queue: config.multi_queue,
        bridge: config.bridge.clone(),
        context: config.context.clone().map(|context| TapContext { context, call: [DRIVER, CREATE] }),
        label: owner.label(),
        index: owner.link_index(),
    })
}

/// The pieces after the device. `own` are the addresses of `result` on it.
///
/// Without duplicate address detection: the device has no carrier until a program attaches to it,
/// and until then the kernel would keep an IPv6 address tentative.
pub fn rest(owner: &Owner, result: &AddResult, own: &[IpNetwork]) -> Vec<Piece> {
    let ifname = &owner.ifname;
    let mut pieces = attach::addresses(ifname, own, false);
    pieces.push(Piece::Up(Up { place: Place::Sandbox, link: ifname.clone() }));
    if !own.is_empty() {
        pieces.extend(attach::routes(ifname, result));
    }
    pieces
}
