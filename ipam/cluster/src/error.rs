//! Errors of the configuration.

use std::fmt;
use std::net::IpAddr;

use cni::{Code, Error, shortened};
use ipnetwork::IpNetwork;

/// An invalid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// What host-local refuses too.
    Lease(leases::ConfigError),
    /// `runtimeConfig.ipRanges` is given.
    IpRanges,
    /// There are none, or more than two `subnets`.
    CountOfSubnets(usize),
    /// The prefix is too short or too long.
    SubnetLength(IpNetwork),
    /// Two subnets of one family.
    OneOfAFamily(IpNetwork, IpNetwork),
    /// `gateway` is neither a text nor a list of texts.
    GatewayType,
    /// The gateway is outside of its subnet, or no container's neighbour can have it.
    Gateway(IpAddr, IpNetwork),
    /// No subnet is of the gateway's family, or another gateway has it.
    GatewayOfNone(IpAddr),
    /// `blockSize` is no power of two from 4 to 1024.
    BlockSize(u32),
    /// A block is larger than the subnet.
    BlockOfSubnet(u32, IpNetwork),
    /// `rangeStart` or `rangeEnd`, which the text is, is in no subnet.
    BoundOutside(&'static str, IpAddr),
    /// `rangeStart` is after `rangeEnd`.
    BoundsOrder(IpAddr, IpAddr),
    /// The path with this key is not absolute.
    NotAbsolute(&'static str, String),
    /// An address that is asked for is never given; why, and of which subnet.
    NeverGiven(IpAddr, &'static str, IpNetwork),
    /// Addresses that are asked for are in no subnet, or another one of that subnet is asked for.
    Unserved(Vec<IpAddr>),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(error) => error.fmt(f),
            Self::IpRanges => f.write_str(
                "cluster: runtimeConfig.ipRanges is not supported: all hosts share the network's subnets; \
                 take the capability \"ipRanges\" out of the list",
            ),
            Self::CountOfSubnets(count) => {
                write!(f, "cluster: ipam.subnets has {count} subnets: one is needed, or one of each family")
            }
            Self::SubnetLength(subnet) => {
                write!(f, "cluster: ipam.subnets: {subnet} is not from /8 to /29, of IPv6 from /32 to /120")
            }
            Self::OneOfAFamily(one, other) => {
                write!(f, "cluster: ipam.subnets: {one} and {other} are of one family: take one of them out")
            }
            Self::GatewayType => {
                f.write_str("cluster: ipam.gateway is neither an address nor a list of addresses")
            }
            Self::Gateway(gateway, subnet) => {
                write!(f, "cluster: ipam.gateway: {gateway} cannot be the gateway of {subnet}")
            }
            Self::GatewayOfNone(gateway) => {
                write!(f, "cluster: ipam.gateway: there is no subnet left for {gateway}")
            }
            Self::BlockSize(size) => {
                write!(f, "cluster: ipam.blockSize: {size} is not a power of two from 4 to 1024")
            }
            Self::BlockOfSubnet(size, subnet) => {
                write!(f, "cluster: ipam.blockSize: {size} addresses are more than {subnet} has")
            }
            Self::BoundOutside(key, ip) => write!(f, "cluster: ipam.{key}: {ip} is in no subnet"),
            Self::BoundsOrder(start, end) => {
                write!(f, "cluster: ipam.rangeStart: {start} is after rangeEnd, {end}")
            }
            Self::NotAbsolute(key, text) => {
                write!(f, "cluster: {key}: {:?} is not an absolute path", shortened(text))
            }
            Self::NeverGiven(ip, why, subnet) => {
                write!(f, "cluster: address {ip} is asked for, but it is {why} of {subnet}, and never given")
            }
            Self::Unserved(ips) => {
                f.write_str("failed to allocate all requested IPs, one of each subnet:")?;
                ips.iter().try_for_each(|ip| write!(f, " {ip}"))
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<leases::ConfigError> for ConfigError {
    fn from(error: leases::ConfigError) -> Self {
        Self::Lease(error)
    }
}

impl From<cni::ParseAddrError> for ConfigError {
    fn from(error: cni::ParseAddrError) -> Self {
        Self::Lease(error.into())
    }
}

impl ConfigError {
    /// The error for the runtime: code 2 for what is not supported, else code 7.
    pub fn to_cni_error(&self) -> Error {
        let code = match self {
            Self::IpRanges => Code::UnsupportedField,
            _ => Code::InvalidConfig,
        };
        Error::new(code, self.to_string())
    }
}
