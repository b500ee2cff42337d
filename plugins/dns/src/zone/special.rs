//! Special-use names, which are never forwarded (RFC 6761, RFC 6303, RFC 7686). Names for tests
//! and documentation and the reverse names of private addresses are not among them: a site's
//! own servers may know those.

use std::net::IpAddr;

use super::reverse::Reverse;
use crate::wire::Name;

/// A special-use name. `zone`: where its zone begins in the queried name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    /// The client itself.
    Localhost { zone: usize },
    /// The reverse name of that.
    LoopbackReverse,
    /// It exists, with names below it only.
    EmptyNonTerminal,
    /// It does not exist.
    NoSuchName { zone: usize },
}

/// Recognizes a special-use name.
pub(super) fn special(name: &Name) -> Option<Special> {
    let below = |suffix: &[u8]| {
        let head = name.before(suffix)?;
        Some(if head.is_empty() { 0 } else { head.len() + 1 })
    };
    if let Some(zone) = below(b"localhost") {
        return Some(Special::Localhost { zone });
    }
    if let Some(zone) = below(b"invalid").or_else(|| below(b"onion")) {
        return Some(Special::NoSuchName { zone });
    }
    let reverse = Reverse::read(name.text())?;
    if !is_special_use_address(reverse) {
        return None;
    }
    let whole = reverse.bits == if reverse.address.is_ipv4() { 32 } else { 128 };
    Some(match reverse.address {
        IpAddr::V4(ip) if whole && !reverse.below && ip.octets() == [127, 0, 0, 1] => {
            Special::LoopbackReverse
        }
        IpAddr::V6(ip) if whole && !reverse.below && ip.is_loopback() => Special::LoopbackReverse,
        _ if whole || reverse.below => Special::NoSuchName { zone: 0 },
        _ => Special::EmptyNonTerminal,
    })
}

/// Whether the addresses mean the same on every host: this host, this network, this link,
/// broadcast.
fn is_special_use_address(reverse: Reverse) -> bool {
    let bits = reverse.bits;
    match reverse.address {
        IpAddr::V4(ip) => {
            bits >= 8 && matches!(ip.octets()[0], 0 | 127)
                || bits >= 16 && ip.is_link_local()
                || bits == 32 && ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            bits == 128 && (ip.is_loopback() || ip.is_unspecified())
                || bits >= 12 && ip.is_unicast_link_local()
        }
    }
}
