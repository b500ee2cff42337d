//! The choice of a subnet when none is given.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// The variable that replaces the pool: `10.90.0.0/16,24`.
pub const VARIABLE: &str = "MOOR_SUBNET_POOL";

/// The most subnets of a pool: a choice must end.
const COUNT_MAX: u8 = 16;

/// Where IPv4 subnets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    base: Ipv4Addr,
    length: u8,
    size: u8,
}

const DEFAULT: Pool = Pool { base: Ipv4Addr::new(10, 90, 0, 0), length: 16, size: 24 };

impl Pool {
    /// The pool of the environment, or the default one.
    pub fn of(variable: Option<&str>) -> Result<Self, Failure> {
        let Some(text) = variable.filter(|text| !text.is_empty()) else { return Ok(DEFAULT) };
        let wrong = || {
            Failure::refused(format!("{VARIABLE}={text}: expected BASE/LENGTH,SIZE such as 10.90.0.0/16,24"))
        };
        let (base, size) = text.split_once(',').ok_or_else(wrong)?;
        let (Ok(IpNetwork::V4(base)), Ok(size)) = (cni::parse_cidr(base), size.parse::<u8>()) else {
            return Err(wrong());
        };
        let fits = base.network() == base.ip() && (base.prefix()..=30).contains(&size);
        if !fits || size - base.prefix() > COUNT_MAX {
            return Err(wrong());
        }
        Ok(Self { base: base.ip(), length: base.prefix(), size })
    }

    /// The first subnet of the pool that nothing is in the way of.
    pub fn first_free(self, is_free: impl Fn(IpNetwork) -> bool) -> Result<IpNetwork, Failure> {
        let step = 1_u64 << (32 - self.size);
        let first = u64::from(self.base.to_bits());
        let count = 1_u64 << (self.size - self.length);
        let nth = |n: u64| {
            let address = u32::try_from(first + n * step).ok()?;
            Ipv4Network::new(Ipv4Addr::from_bits(address), self.size).ok().map(IpNetwork::V4)
        };
        (0..count).filter_map(nth).find(|subnet| is_free(*subnet)).ok_or_else(|| {
            let Self { base, length, size } = self;
            Failure::refused(format!("the pool {base}/{length} is used up: no /{size} of it is free"))
                .hint(format!("give --subnet, or another pool: {VARIABLE}=10.91.0.0/16,24"))
        })
    }
}

/// A /64 of fd00::/8 (RFC 4193) from machine and name: the same again after the network is removed
/// and made anew.
pub fn unique_local(
    machine: &str,
    name: &str,
    is_free: impl Fn(IpNetwork) -> bool,
) -> Result<IpNetwork, Failure> {
    let nth = |n: u8| {
        let digest = Sha256::digest([machine.as_bytes(), b"/", name.as_bytes(), &[n]].concat());
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[1..8].copy_from_slice(&digest[..7]);
        Ipv6Network::new(Ipv6Addr::from(bytes), 64).ok().map(IpNetwork::V6)
    };
    (0..u8::MAX)
        .filter_map(nth)
        .find(|subnet| is_free(*subnet))
        .ok_or_else(|| Failure::refused("no subnet of fd00::/8 is free"))
}

/// The default gateway of a subnet: its first address.
pub fn first_address(subnet: IpNetwork) -> IpAddr {
    match subnet {
        IpNetwork::V4(subnet) => IpAddr::V4((subnet.network().to_bits() + 1).into()),
        IpNetwork::V6(subnet) => IpAddr::V6((subnet.network().to_bits() + 1).into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_subnet_is_taken_and_the_257th_network_gets_none() {
        let pool = Pool::of(None).unwrap();
        let mut taken: Vec<IpNetwork> = Vec::new();
        for third in 0..256 {
            let subnet = pool.first_free(|subnet| !taken.contains(&subnet)).unwrap();
            assert_eq!(subnet.to_string(), format!("10.90.{third}.0/24"));
            taken.push(subnet);
        }
        let failure = pool.first_free(|subnet| !taken.contains(&subnet)).unwrap_err();
        assert!(failure.text.contains("used up"), "{failure}");
    }

    #[test]
    fn the_environment_has_another_pool() {
        let pool = Pool::of(Some("172.30.0.0/24,28")).unwrap();
        assert_eq!(pool.first_free(|subnet| subnet.ip() != pool.base).unwrap().to_string(), "172.30.0.16/28");
        for odd in
            ["10.0.0.0/8", "10.0.0.0/8,31", "10.0.0.1/8,24", "10.0.0.0/24,16", "fd00::/8,64", "0.0.0.0/0,30"]
        {
            assert!(Pool::of(Some(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn the_ipv6_subnet_depends_on_machine_and_name_alone() {
        let one = unique_local("m1", "front", |_| true).unwrap();
        assert_eq!(unique_local("m1", "front", |_| true).unwrap(), one);
        assert_ne!(unique_local("m1", "back", |_| true).unwrap(), one);
        assert_ne!(unique_local("m2", "front", |_| true).unwrap(), one);
        assert_ne!(unique_local("m1", "front", |subnet| subnet != one).unwrap(), one);
        assert!(one.prefix() == 64 && one.to_string().starts_with("fd"));
    }
}
