//! The sum of each range: how many addresses it has, and how many are used.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use runtime::Conflist;
use serde::{Serialize, Serializer};

use crate::subnets::{self, Subnet};

use super::LeaseState;

/// A sum.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RangeSum {
    /// The subnet.
    #[serde(serialize_with = "as_text")]
    pub subnet: IpNetwork,
    /// The addresses that can be leased.
    pub size: u128,
    /// Those that are leased, without leaked ones.
    pub used: u128,
    /// Those that can be leased now.
    pub free: u128,
    /// Those that no container has, and that are leased.
    pub leaked: u128,
}

/// The sums of a list's subnets.
pub fn sums(
    list: Option<&Conflist>,
    leases: impl Iterator<Item = (IpAddr, LeaseState)> + Clone,
) -> Vec<RangeSum> {
    let subnets = list.map(subnets::of).unwrap_or_default();
    subnets.iter().map(|subnet| sum(subnet, leases.clone())).collect()
}

fn sum(subnet: &Subnet, leases: impl Iterator<Item = (IpAddr, LeaseState)>) -> RangeSum {
    let (mut used, mut leaked) = (0, 0);
    for (_, state) in leases.filter(|(address, _)| subnet.subnet.contains(*address)) {
        match state {
            LeaseState::Free => {}
            _ if state.is_dead() => leaked += 1,
            _ => used += 1,
        }
    }
    let size = size(subnet);
    RangeSum { subnet: subnet.subnet, size, used, free: size.saturating_sub(used + leaked), leaked }
}

/// host-local leases neither the subnet's first address nor the gateway, which is the one after it
/// if none is named, nor the broadcast address of IPv4.
fn size(subnet: &Subnet) -> u128 {
    let whole = (number(subnet.subnet.network()), number(subnet.subnet.broadcast()));
    let parts: Vec<(u128, u128)> = match subnet.ranges.is_empty() {
        true => vec![whole],
        false => subnet.ranges.iter().map(|range| (number(range.first), number(range.last))).collect(),
    };
    let gateway = subnet.gateway.map_or(whole.0.saturating_add(1), number);
    let mut reserved = vec![whole.0, gateway];
    reserved.extend(subnet.subnet.is_ipv4().then_some(whole.1));
    reserved.sort_unstable();
    reserved.dedup();
    let of_part = |(first, last): &(u128, u128)| {
        let taken = reserved.iter().filter(|address| (first..=last).contains(address)).count() as u128;
        last.saturating_sub(*first).saturating_add(u128::from(last >= first)).saturating_sub(taken)
    };
    parts.iter().map(of_part).fold(0, u128::saturating_add)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn as_text<S: Serializer>(subnet: &IpNetwork, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(subnet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn of(ipam: &str) -> Vec<u128> {
        let list = format!(r#"{{"name":"n","plugins":[{{"type":"bridge","ipam":{ipam}}}]}}"#);
        let list = Conflist::from_bytes(list.as_bytes()).unwrap();
        let leases = [("10.2.0.5", LeaseState::Used), ("10.2.0.6", LeaseState::Leaked)];
        let leases = leases.map(|(address, state)| (address.parse().unwrap(), state));
        let sums = sums(Some(&list), leases.into_iter());
        sums.iter().flat_map(|sum| [sum.size, sum.used, sum.free, sum.leaked]).collect()
    }

    #[test]
    fn a_sum_has_what_host_local_can_lease() {
        assert_eq!(of(r#"{"subnet":"10.2.0.0/24"}"#), [253, 1, 251, 1]);
        assert_eq!(
            of(r#"{"subnet":"10.2.0.0/24","rangeStart":"10.2.0.5","rangeEnd":"10.2.0.9"}"#),
            [5, 1, 3, 1]
        );
        assert_eq!(of(r#"{"subnet":"10.2.0.0/24","gateway":"10.9.0.1"}"#), [254, 1, 252, 1]);
        assert_eq!(of(r#"{"subnet":"fd00::/126"}"#), [2, 0, 2, 0]);
        assert_eq!(of(r#"{"subnet":"fd00::/64"}"#)[0], (1 << 64) - 2);
    }
}
