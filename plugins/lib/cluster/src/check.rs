//! The bounds of each record of etcd by itself.

use std::net::IpAddr;

use sys::IpFamily;

use crate::key::{is_host, is_name};
use crate::left_out::Fault;
use crate::mac;
use crate::record::{Alive, Ask, Block, EndpointRecord, Grace, Host, Lent, Meta, Net, Own, Silent, Vni};
pub use crate::usable::is_usable;
use crate::usable::{hold, is_destination};
use crate::{VNI_FIRST, VNI_LAST};

/// The most addresses of an attachment.
pub const IPS_MAX: usize = 16;
/// The longest text for people, in bytes: it may name a container.
const TEXT_MAX: usize = 1024;
/// The bounds of a link's MTU, in bytes: what IPv4 needs, and what the kernel's loopback has.
const LINK_MTU: (u32, u32) = (576, 65_536);
/// The owner of addresses that belong to services, in the place of a host.
pub const SERVICES: &str = "services";

/// A record with a version and bounds.
pub trait Checked {
    /// Its `v`.
    fn version(&self) -> u32;

    /// Checks all else.
    ///
    /// # Errors
    /// The member, and why.
    fn check(&self) -> Result<(), Fault>;
}

macro_rules! checked {
    ($($kind:ty: |$record:ident| $check:expr;)*) => {$(
        impl Checked for $kind {
            fn version(&self) -> u32 {
                self.v
            }

            fn check(&self) -> Result<(), Fault> {
                let $record = self;
                $check
            }
        }
    )*};
}

checked! {
    Meta: |meta| {
        hold(is_hex(&meta.cluster), "cluster", "is not 1 to 64 hex digits")?;
        hold(meta.protocol > 0, "protocol", "is 0")?;
        hold(meta.port > 0, "port", "is 0")?;
        hold(meta.encrypted_port > 0, "encryptedPort", "is 0")?;
        hold(meta.port != meta.encrypted_port, "encryptedPort", "is \"port\", too")
    };
    Host: |host| {
        text("name", &host.name)?;
        text("agent", &host.agent)?;
        hold(host.protocol > 0, "protocol", "is 0")?;
        hold((LINK_MTU.0..=LINK_MTU.1).contains(&host.mtu), "mtu", "is not 576 to 65536")?;
        one_of_a_family("addresses", &host.addresses)?;
        hold(host.addresses.iter().all(|ip| is_destination(*ip)), "addresses", "has one of no host")
    };
    Alive: |alive| text("boot", &alive.boot);
    Silent: |silent| text("since", &silent.since);
    Grace: |_grace| Ok(());
    Net: |net| {
        hold(net.vni.is_none_or(|id| (VNI_FIRST..=VNI_LAST).contains(&id)), "vni", "is not one of ours")?;
        hold(net.vni.is_some() == net.mtu.is_some(), "mtu", "and \"vni\" are not both there")?;
        hold(net.mtu != Some(0), "mtu", "is 0")?;
        crate::net::check(net)
    };
    Vni: |vni| hold(is_name(&vni.network), "network", "is no name of a network");
    Block: |block| owner("host", &block.host);
    Lent: |lent| {
        owner("from", &lent.from)?;
        let is_service = lent.from == SERVICES && is_name(&lent.to);
        hold(is_service || is_host(&lent.to), "to", "is no id of a host")
    };
    Own: |own| {
        one_of_a_family("ips", &own.ips)?;
        hold_mac(&own.mac)
    };
    Ask: |ask| {
        hold(ask.of.as_deref().is_none_or(is_host), "of", "is no id of a host")?;
        ask.refused.as_deref().map_or(Ok(()), |why| text("refused", why))
    };
    EndpointRecord: |endpoint| {
        let ips = &endpoint.ips;
        hold(!ips.is_empty() && ips.len() <= IPS_MAX, "ips", "has none, or more than 16")?;
        hold(ips.iter().all(|ip| is_usable(*ip)), "ips", "has an address that no container can have")?;
        let twice = ips.iter().enumerate().any(|(n, ip)| ips.iter().take(n).any(|other| other == ip));
        hold(!twice, "ips", "has an address twice")?;
        hold_mac(&endpoint.mac)?;
        hold(endpoint.names.len() <= names::NAMES_MAX, "names", "has more than 64")?;
        let is_valid = |text: &String| names::parse(text, None).is_ok_and(|name| name == *text);
        hold(endpoint.names.iter().all(is_valid), "names", "has one that is no name in lower case")
    };
}

fn one_of_a_family(member: &'static str, ips: &[IpAddr]) -> Result<(), Fault> {
    let families: Vec<_> = ips.iter().map(|ip| IpFamily::of(*ip)).collect();
    let is_sound = match *families {
        [_] => true,
        [one, other] => one != other,
        _ => false,
    };
    hold(is_sound, member, "is not one address, or one of each family")?;
    hold(ips.iter().all(|ip| is_usable(*ip)), member, "has an address that no host can have")
}

fn owner(member: &'static str, text: &str) -> Result<(), Fault> {
    hold(is_host(text) || text == SERVICES, member, "is no id of a host")
}

fn hold_mac(text: &str) -> Result<(), Fault> {
    let mac = mac::parse(text);
    hold(
        mac.is_some_and(|mac| !mac.is_multicast() && !mac.is_zero()),
        "mac",
        "is no unicast MAC as the kernel prints it",
    )
}

/// A text for people.
fn text(member: &'static str, text: &str) -> Result<(), Fault> {
    let is_sound = text.len() <= TEXT_MAX && !text.contains(char::is_control);
    hold(is_sound, member, "is longer than 1024 bytes, or has control characters")
}

fn is_hex(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
