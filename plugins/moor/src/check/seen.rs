//! Reads what there is of an attachment. The model has links and addresses; routes, leases and
//! parameters are read here.

use std::path::Path;

use ipnetwork::IpNetwork;
use netlink::{Link, Netlink};

use super::compare::Seen;
use super::expected::Expected;
use crate::files;
use crate::model::{Attachment, Model};

/// The longest lease that is read, in bytes.
const LEASE_MAX: u64 = 192 * 1024;

/// What there is of one attachment.
pub fn look(model: &Model, one: &Attachment, expected: &Expected) -> Seen {
    let kernel = &model.kernel;
    let mut seen = Seen {
        leases: expected.leases.iter().map(|file| (file.clone(), content(file))).collect(),
        forwarding: [is_on("net/ipv4/ip_forward"), is_on("net/ipv6/conf/all/forwarding")],
        twice: twice(model, one),
        bridge: expected.bridge.as_ref().and_then(|name| {
            let bridge = kernel.host.links.iter().find(|link| link.name == *name)?;
            let own = kernel.host.addresses.iter().filter(|address| address.index == bridge.index);
            Some((bridge.up(), own.map(|address| address.net).collect()))
        }),
        ..Seen::default()
    };
    let Some(namespace) = one.namespace.and_then(|at| kernel.namespaces.get(at)) else { return seen };
    let Some(link) = link_of(&namespace.links, expected) else { return seen };
    seen.addresses = namespace.addresses_of(link).map(|address| address.net).collect::<Vec<IpNetwork>>();
    seen.routes = namespace.open().ok().flatten().and_then(|netns| {
        let inside = Netlink::open_in(&netns).ok()?;
        inside.routes(None, None).ok()
    });
    // A macvlan's parent is not a link of its own.
    let own = one.host_ifindex.and_then(|index| kernel.host_link(index));
    seen.host_link = own.filter(|host| host.kind.as_deref() == Some("veth")).cloned();
    let master = seen.host_link.as_ref().and_then(|host| kernel.host_link(host.master?));
    seen.master = master.map(|bridge| bridge.name.clone());
    seen.link = Some(link.clone());
    seen
}

/// The link by its name, else by its MAC address.
fn link_of<'l>(links: &'l [Link], expected: &Expected) -> Option<&'l Link> {
    let named = links.iter().find(|link| link.name == expected.ifname);
    named.or_else(|| links.iter().find(|link| expected.mac.is_some() && link.mac == expected.mac))
}

fn content(file: &Path) -> Option<String> {
    let bytes = files::read(file, LEASE_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn is_on(key: &str) -> Option<bool> {
    sys::sysctl::read(key).ok().map(|value| value != "0")
}

/// The addresses that another attachment of the network has too.
fn twice(model: &Model, one: &Attachment) -> Vec<(String, String)> {
    let others = model.attachments.iter().filter(|other| {
        other.network == one.network
            && other.may_be_alive()
            && other.namespace.is_some()
            && !is_same(one, other)
    });
    let mut twice = Vec::new();
    for other in others {
        for address in other.addresses.iter().filter(|address| one.addresses.contains(address)) {
            twice.push((address.to_string(), format!("{} {}", other.shown_name(), other.ifname)));
        }
    }
    twice
}

fn is_same(one: &Attachment, other: &Attachment) -> bool {
    one.namespace == other.namespace || (one.container_id == other.container_id && one.ifname == other.ifname)
}
