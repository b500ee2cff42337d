//! Which packets are shaped, by the address of the other end.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Filter, Handle, Key, Rule};
use sys::IpFamily;

/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// The packets that are shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packets {
    /// All.
    All,
    /// Those from or to these subnets.
    Only(Vec<IpNetwork>),
    /// All but those.
    AllBut(Vec<IpNetwork>),
}

/// The address in a packet that is not the container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// The packets go to the container.
    Source,
    /// They come from the container.
    Destination,
}

impl Packets {
    /// The filters that give packets their class: each of a subnet, in the configured order.
    /// `shaped` is the number of the class.
    pub(super) fn filters(&self, shaped: Handle, end: OtherEnd) -> Vec<Filter> {
        let (subnets, class) = match self {
            Self::All => return Vec::new(),
            Self::Only(subnets) => (subnets, shaped),
            // The discipline's own number: no class.
            Self::AllBut(subnets) => (subnets, shaped.class(0)),
        };
        subnets.iter().map(|subnet| filter(subnet, class, end)).collect()
    }
}

fn filter(subnet: &IpNetwork, class: Handle, end: OtherEnd) -> Filter {
    // All filters of a priority are of one protocol.
    let (priority, protocol) = IpFamily::of(subnet.ip()).choose((1, ETH_P_IP), (2, ETH_P_IPV6)).to_owned();
    let offset = match (end, subnet.is_ipv4()) {
        (OtherEnd::Source, true) => 12,
        (OtherEnd::Destination, true) => 16,
        (OtherEnd::Source, false) => 8,
        (OtherEnd::Destination, false) => 24,
    };
    let words = words(subnet.network()).into_iter().zip(words(subnet.mask()));
    let keys = (offset..).step_by(4).zip(words);
    let key = |(offset, (value, mask))| Key { offset, mask, value };
    let mut keys: Vec<Key> = keys.map(key).filter(|key| key.mask != 0).collect();
    if keys.is_empty() {
        keys.push(Key { offset, mask: 0, value: 0 });
    }
    let rule = Some(Rule { keys, class, redirect: None });
    Filter { priority, protocol, handle: Handle::NONE, rule }
}

/// The words of an address, in host byte order.
fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(address) => vec![address.to_bits()],
        IpAddr::V6(address) => {
            let octets = address.octets();
            octets
                .chunks_exact(4)
                .filter_map(|word| Some(u32::from_be_bytes(word.try_into().ok()?)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(subnet: &str, end: OtherEnd) -> Vec<(u32, u32, u32)> {
        let packets = Packets::AllBut(vec![subnet.parse().unwrap()]);
        let filters = packets.filters(Handle::discipline(0x4001).class(1), end);
        let rule = filters[0].rule.clone().unwrap();
        assert_eq!(rule.class.to_string(), "4001:");
        rule.keys.iter().map(|key| (key.offset, key.mask, key.value)).collect()
    }

    #[test]
    fn a_subnet_is_compared_with_the_other_ends_address() {
        assert_eq!(keys("10.1.2.3/24", OtherEnd::Source), [(12, 0xffff_ff00, 0x0a01_0200)]);
        assert_eq!(keys("10.1.2.3/32", OtherEnd::Destination), [(16, 0xffff_ffff, 0x0a01_0203)]);
        assert_eq!(keys("0.0.0.0/0", OtherEnd::Source), [(12, 0, 0)]);
        let v6 = [(24, 0xffff_ffff, 0x2001_0db8), (28, 0xffff_0000, 0x0001_0000)];
        assert_eq!(keys("2001:db8:1:2::/48", OtherEnd::Destination), v6);
        assert_eq!(keys("::/0", OtherEnd::Source), [(8, 0, 0)]);
    }
}
