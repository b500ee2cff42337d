//! Errors of the configuration.

use std::fmt;
use std::net::IpAddr;

use cni::{Version, shortened};
use ipnetwork::IpNetwork;

/// An invalid configuration. Where the reference has a text, it is kept: operators search logs for
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No `ipam` object.
    NoIpam,
    /// An `address` is not an address with a prefix length.
    BadAddress(String),
    /// An element of `ips` is not one.
    BadRequested(String),
    /// The `gateway` of the address with this index.
    BadGateway(usize, cni::ParseAddrError),
    /// Gateway and address are of different families.
    GatewayFamily {
        /// The gateway.
        gateway: IpAddr,
        /// The address.
        address: IpNetwork,
    },
    /// An address occurs twice.
    Duplicate(IpNetwork),
    /// A result of this version has one address per family.
    OnePerFamily(Version),
    /// Too many addresses: count, limit.
    TooMany(usize, usize),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIpam => write!(f, "IPAM config missing 'ipam' key"),
            Self::BadAddress(text) => {
                let text = shortened(text);
                write!(f, "the 'address' field is expected to be in CIDR notation, got: '{text}'")
            }
            Self::BadRequested(text) => {
                let text = shortened(text);
                write!(f, "an entry in the 'ips' field is NOT in CIDR notation, got: '{text}'")
            }
            Self::BadGateway(index, cause) => write!(f, "ipam.addresses[{index}].gateway: {cause}"),
            Self::GatewayFamily { gateway, address } => {
                write!(f, "gateway {gateway} is not of the address family of {address}")
            }
            Self::Duplicate(address) => write!(f, "address {address} is given twice"),
            Self::OnePerFamily(version) => {
                write!(f, "CNI version {version} does not support more than 1 address per family")
            }
            Self::TooMany(count, bound) => {
                write!(f, "{count} addresses, at most {bound} are supported")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// The error for the runtime, with code 7.
    pub fn to_cni_error(&self) -> cni::Error {
        cni::Error::invalid_config(self.to_string())
    }
}
