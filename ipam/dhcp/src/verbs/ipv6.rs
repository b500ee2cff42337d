//! The IPv6 addresses of an ADD.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni::{AddResult, Error};
use ipnetwork::IpNetwork;

use super::add::Adding;
use super::taken::Taken;
use crate::answer;
use crate::config::Ipv6;
use crate::exchange::Exchange;
use crate::routers::{NoAddress, Routers};
use crate::terms::Terms;
use crate::v6::{self, advert::server_text};

/// How long an attachment that can do without IPv6 waits for it.
const OPTIONAL: Duration = Duration::from_secs(5);

/// Gets the addresses and completes the result. A lease that was taken is returned.
///
/// # Errors
/// There is no address, and the attachment needs one.
pub fn add<'a>(
    adding: &'a Adding<'a>,
    ipv6: Ipv6,
    mut routers: Routers<'_>,
    result: &mut AddResult,
) -> Result<Option<Taken<'a>>, Error> {
    let optional = adding.settings.ipv6_optional;
    let deadline = if optional { adding.deadline.min(Instant::now() + OPTIONAL) } else { adding.deadline };
    let got = match ipv6 {
        Ipv6::Slaac => autoconfigured(adding, &mut routers, deadline, result).map(|()| None),
        Ipv6::Dhcp { prefix } => leased(adding, prefix, &mut routers, deadline, result).map(Some),
    };
    match got {
        Err(error) if optional => {
            eprintln!("dhcp: {}: IPv4 alone: {}", adding.owner(), error.msg);
            Ok(None)
        }
        got => got.map_err(|error| Error { msg: format!("IPv6: {}", error.msg), ..error }),
    }
}

fn autoconfigured(
    adding: &Adding<'_>,
    routers: &mut Routers<'_>,
    deadline: Instant,
    result: &mut AddResult,
) -> Result<(), Error> {
    let nets = routers.autoconfigured(deadline).map_err(|failure| match failure {
        NoAddress::Kernel(error) => error.into(),
        failure => Error::internal(failure.to_string()),
    })?;
    complete(adding, routers, &nets, result);
    Ok(())
}

fn leased<'a>(
    adding: &'a Adding<'a>,
    prefix: bool,
    routers: &mut Routers<'_>,
    deadline: Instant,
    result: &mut AddResult,
) -> Result<Taken<'a>, Error> {
    let ask = v6::Ask::of(&adding.settings.ask.client_id, prefix);
    let [_, name] = adding.names();
    let before = match adding.store.read(&name)?.map(|record| record.terms) {
        Some(Terms::V6 { grant, .. }) => Some(grant),
        _ => None,
    };
    routers.ask(deadline)?;
    let (mut taken, mut terms) = adding.leased(deadline, true, |now| {
        let client = v6::Client::select(ask.clone(), adding.pace(), before.clone(), now);
        Ok(Exchange::V6(adding.place.port()?, client))
    })?;
    routers.await_router(deadline)?;
    if let Terms::V6 { grant, .. } = &mut terms {
        grant.length = routers.heard.on_link(grant.address).unwrap_or(128);
        taken.complete(&Terms::V6 { ask, grant: grant.clone() })?;
    }
    let nets: Vec<IpNetwork> = terms.net().into_iter().collect();
    complete(adding, routers, &nets, result);
    if let Terms::V6 { grant, .. } = &terms {
        let servers = grant.name_servers.iter().map(|server| server_text(*server, &adding.place.link.name));
        extend(&mut result.dns.nameservers, servers);
        extend(&mut result.dns.search, grant.search.iter().cloned());
        if let Some(prefix) = grant.prefix {
            eprintln!("dhcp: {}: the prefix {prefix} is delegated", adding.owner());
        }
    }
    Ok(taken)
}

/// Adds addresses to the result, and what the routers advertise.
fn complete(adding: &Adding<'_>, routers: &Routers<'_>, nets: &[IpNetwork], result: &mut AddResult) {
    let heard = &routers.heard;
    let router = heard.default_router().map(IpAddr::V6);
    let link = &adding.place.link;
    answer::add_v6(result, nets, router, adding.settings.priority, heard.mtu().filter(|mtu| *mtu < link.mtu));
    extend(&mut result.dns.nameservers, heard.name_servers(&link.name));
    extend(&mut result.dns.search, heard.search().cloned());
}

/// Appends what is new.
fn extend(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for text in more {
        if !list.contains(&text) {
            list.push(text);
        }
    }
}
