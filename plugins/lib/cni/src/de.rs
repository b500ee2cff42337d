//! For `#[serde(default, deserialize_with = "cni::de::...")]`: optional addresses. `null` and the
//! empty string count as absent (C-028).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};

use crate::{ParseAddrError, parse_cidr, parse_ip};

/// An address.
///
/// # Errors
/// What [`parse_ip`] refuses.
pub fn ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    read(deserializer, parse_ip)
}

/// An address with its prefix length.
///
/// # Errors
/// What [`parse_cidr`] refuses.
pub fn cidr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNetwork>, D::Error> {
    read(deserializer, parse_cidr)
}

fn read<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, ParseAddrError>,
) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.filter(|text| !text.is_empty())
        .map(|text| parse(&text))
        .transpose()
        .map_err(serde::de::Error::custom)
}
