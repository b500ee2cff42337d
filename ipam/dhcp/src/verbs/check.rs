//! CHECK: compares, and never asks a server. The address on the link is the caller's to compare.

use cni::{Error, Request};

use super::{settings, store};
use crate::acquire::now;
use crate::config::Ipv6;
use crate::keeper;
use crate::record::{Record, State, names};

pub fn check(request: &Request) -> Result<(), Error> {
    let settings = settings(request)?;
    let store = store();
    let differs = |what: &str, expected: &str, actual: &str| {
        Error::internal(format!("dhcp: {what}: expected: {expected}, actual: {actual}"))
    };
    let exists = store.exists()?;
    let leases_v6 = matches!(settings.ipv6, Some(Ipv6::Dhcp { .. }));
    let needed = [true, leases_v6 && !settings.ipv6_optional];
    let names = names(&request.network, &request.container_id, &request.ifname);
    let previous = request.prev_result()?;
    for (name, (needed, family)) in names.iter().zip(needed.into_iter().zip(["", "IPv6 "])) {
        let record = if exists { store.read(name)? } else { None };
        let attachment = format!("{family}lease of {} {}", request.container_id, request.ifname);
        let Some(record) = record else {
            if needed {
                let fault = store.fault(name).filter(|_| exists);
                return Err(differs(&attachment, "a lease", fault.as_deref().unwrap_or("none")));
            }
            continue;
        };
        if let Some(actual) = unusable(&record)? {
            return Err(differs(&attachment, &format!("{} is leased", record.address()), actual));
        }
        let Some(result) = &previous else { continue };
        let listed = |ip: &cni::IpConfig| Some(ip.address.ip()) == record.terms.net().map(|net| net.ip());
        if !result.ips.iter().any(listed) {
            let expected: Vec<String> = result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
            return Err(differs(&attachment, &expected.join(", "), &record.address()));
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
