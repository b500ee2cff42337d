//! Addresses from text, as strict as the reference's parser: no leading zeros in IPv4, no zones, decimal prefixes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::error::ConfigError;

/// An address.
pub fn parse_ip(text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| ConfigError::BadIp(text.to_owned()))
}

/// An address with a prefix length, host bits kept.
pub fn parse_cidr(text: &str) -> Result<IpNetwork, ConfigError> {
    let parsed = || {
        let (ip, prefix) = text.split_once('/')?;
        if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        IpNetwork::new(ip.parse().ok()?, prefix.parse().ok()?).ok()
    };
    parsed().ok_or_else(|| ConfigError::BadCidr(text.to_owned()))
}

/// An address whose prefix length, if any, does not count; canonical.
pub fn parse_ip_or_cidr(text: &str) -> Result<IpAddr, ConfigError> {
    let ip = match text.split_once('/') {
        None => text.parse().ok(),
        Some(_) => parse_cidr(text).ok().map(|net| net.ip()),
    };
    ip.map(|ip: IpAddr| ip.to_canonical()).ok_or_else(|| ConfigError::BadIp(text.to_owned()))
}
