//! Addresses from text, where host-local's rules differ from those of other plugins.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::ConfigError;

/// The longest part of a malformed text in an error, in characters.
const SHOWN: usize = 100;

/// The subnet of a range. Like the reference, this refuses a v4-mapped IPv6 subnet.
pub fn subnet(text: &str) -> Result<IpNetwork, ConfigError> {
    let net = cni::parse_cidr(text)?;
    if net.is_ipv4() && text.contains(':') { Err(ConfigError::MappedSubnet) } else { Ok(net) }
}

/// A requested address, from CNI_ARGS or a list; a prefix length is ignored.
pub fn request(text: &str) -> Result<IpAddr, ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::EmptyRequest);
    }
    let ip = if text.contains('/') { cni::parse_cidr(text).map(|net| net.ip()) } else { cni::parse_ip(text) };
    ip.map_err(|_| ConfigError::BadRequest(text.chars().take(SHOWN).collect()))
}

/// An address or all addresses of a network.
pub fn excluded(text: &str) -> Result<IpNetwork, ConfigError> {
    if text.contains('/') { Ok(cni::parse_cidr(text)?) } else { Ok(cni::parse_ip(text)?.into()) }
}
