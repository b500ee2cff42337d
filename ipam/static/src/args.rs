//! The addresses and gateways in CNI_ARGS.

use std::net::IpAddr;

use cni::{Error, Request, shortened};
use ipnetwork::IpNetwork;

/// Limits the number of comparisons between gateways and addresses.
const MAX_LISTED: usize = 1024;

/// The values of `IP` and `GATEWAY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// `IP`
    pub ips: Vec<IpNetwork>,
    /// `GATEWAY`
    pub gateways: Vec<IpAddr>,
}

impl Args {
    /// Reads both lists; of a repeated key the last one counts.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let pairs = request.args(&["IP", "GATEWAY"])?;
        let last = |key: &str| pairs.iter().rev().find(|(of, _)| of == key).map(|(_, value)| value.as_str());
        let ip = |text: &str| {
            cni::parse_cidr(text).map_err(|_| {
                Error::internal(format!(
                    "the 'ip' field is expected to be in CIDR notation, got: '{}'",
                    shortened(text)
                ))
            })
        };
        let gateway = |text: &str| {
            cni::parse_ip(text)
                .map_err(|_| Error::internal(format!("invalid gateway address: {}", shortened(text))))
        };
        Ok(Self { ips: list("IP", last("IP"), ip)?, gateways: list("GATEWAY", last("GATEWAY"), gateway)? })
    }
}

/// The elements of a list with commas; spaces around them do not count.
fn list<T>(key: &str, text: Option<&str>, parse: impl Fn(&str) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Vec::new()) };
    let count = text.split(',').count();
    if count > MAX_LISTED {
        return Err(Error::internal(format!(
            "ARGS: {count} entries in {key}, at most {MAX_LISTED} are supported"
        )));
    }
    text.split(',').map(|element| parse(element.trim())).collect()
}
