//! CHECK: compares, and never asks a server. The address on the link is the caller's to compare.

use std::net::IpAddr;

use cni::{Error, Request};

use super::{settings, store};
use crate::acquire::now;
use crate::keeper;
use crate::record::{Record, State, name};

pub fn check(request: &Request) -> Result<(), Error> {
    let settings = settings(request)?;
    let store = store();
    let differs = |what: &str, expected: &str, actual: &str| {
        Error::internal(format!("dhcp: {what}: expected: {expected}, actual: {actual}"))
    };
    let record = if store.exists()? {
        store.read(&name(&request.network, &request.container_id, &request.ifname))?
    } else {
        None
    };
    let attachment = format!("lease of {} {}", request.container_id, request.ifname);
    let Some(record) = record else { return Err(differs(&attachment, "a lease", "none")) };
    if let Some(actual) = unusable(&record)? {
        return Err(differs(&attachment, &format!("{} is leased", record.grant.address), actual));
    }
    if let Some(result) = request.prev_result()? {
        let listed = result.ips.iter().any(|ip| ip.address.ip() == IpAddr::from(record.grant.address));
        if !listed {
            let expected: Vec<String> = result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
            let actual = record.grant.address.to_string();
            return Err(differs(&attachment, &expected.join(", "), &actual));
        }
    }
    // Without a daemon, the lease would end.
    keeper::ensure(&store, &settings.socket).map(drop)
}

/// Why the address of a record may not be used.
fn unusable(record: &Record) -> Result<Option<&'static str>, Error> {
    Ok(match record.state {
        State::Offered => Some("only offered"),
        State::Releasing => Some("being released"),
        State::Lost => Some("no server extended its time"),
        State::Bound => match record.end() {
            Some(end) if now()? >= end => Some("its time is over"),
            _ => None,
        },
    })
}
