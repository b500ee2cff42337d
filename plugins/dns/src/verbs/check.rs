//! CHECK: compares the records with the plan and queries the responder, and repairs what it can
//! without the container.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni::{AddResult, Code, Error, Request};
use sys::{IpFamily, NetNs};

use super::Way;
use crate::config::Config;
use crate::container::Sockets;
use crate::control::Ask;
use crate::plan::{self, Plan};
use crate::record::{Attachment, Mode, Network, Place};
use crate::responder::Responder;
use crate::{container, dnsname, facts, place, probe, restore};

/// How long all queries may take: a lost datagram is no drift.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for sockets in the container, before they are reopened: nothing is lost on a
/// loopback.
const PATIENCE_INSIDE: Duration = Duration::from_secs(1);

/// Verifies the records, and queries the container's primary name.
///
/// # Errors
/// Every difference, with expected and actual value.
pub fn check(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let previous = request
        .prev_result()?
        .ok_or_else(|| Error::new(Code::InvalidConfig, "Required prevResult missing"))?;
    let (place, socket) = place::here(config.state_dir.as_deref())?;
    if config.optional && !place.has_attachment(&request.network, &plan::key(request)) {
        return Ok(());
    }
    let plan = plan::plan(&config, request, &previous, &facts::look(&previous)?)?;
    let mut responder = Responder::new(&place, socket);
    let lock = place.lock()?;
    restore::restore(&place)?;
    let (network, attachment) = match recorded(&plan, &place) {
        Err(_) if dnsname::serves(&place, &plan.attachment, &mut responder)? => return Ok(()),
        recorded => recorded?,
    };
    let way = Way::keep(&network)?;
    let ask = Ask::Sync { network: network.name.clone(), key: Some(plan.attachment.key.clone()) };
    responder.ask(&ask, &[])?;
    // A container that blocks answers makes nobody else wait.
    drop(lock);
    match network.mode {
        // From the container's namespace: the host's firewall accepts queries of the
        // host itself.
        Mode::Gateway => NetNs::open(&request.netns)?
            .enter(|| {
                let until = Instant::now() + PATIENCE;
                plan.network.listen.iter().try_for_each(|server| asked(*server, &plan, until))
            })?
            .map_err(|error| match &way.closed {
                Some(closed) => error.details(format!("{closed:#}")),
                None => error,
            }),
        Mode::Netns => inside(request, &plan, &attachment, &previous, &place, &mut responder),
    }
}

/// Verifies sockets in the container's namespace, and reopens those that a killed responder
/// lost.
fn inside(
    request: &Request,
    plan: &Plan,
    found: &Attachment,
    previous: &AddResult,
    place: &Place,
    responder: &mut Responder<'_>,
) -> Result<(), Error> {
    let Some(netns) = container::namespace(&request.netns, found.namespace)? else {
        return Err(Error::internal(format!(
            "names of container {} ({}) have drifted: {} is not the network namespace of ADD",
            found.key.container, found.key.ifname, request.netns
        )));
    };
    let told = previous.dns.nameservers.iter().filter_map(|server| cni::parse_ip(server).ok());
    let servers: Vec<IpAddr> = told.filter(IpAddr::is_loopback).collect();
    let until = Instant::now() + PATIENCE_INSIDE;
    let all = || netns.enter(|| servers.iter().try_for_each(|server| asked(*server, plan, until)))?;
    if !servers.is_empty() && all().is_ok() {
        return Ok(());
    }
    let lock = place.lock()?;
    let sockets = Sockets::open(&netns, &request.network, &plan.attachment.key)?;
    let address = sockets.address.into();
    sockets.hand_over(&request.network, &plan.attachment.key, |ask, fds| responder.ask(ask, fds))?;
    drop(lock);
    netns.enter(|| asked(address, plan, Instant::now() + PATIENCE))?
}

/// Queries one server for the primary name: the answer must contain every address of the
/// container.
fn asked(server: IpAddr, plan: &Plan, until: Instant) -> Result<(), Error> {
    let Attachment { names, ips, .. } = &plan.attachment;
    let Some(name) = names.first() else { return Ok(()) };
    for family in IpFamily::BOTH {
        let wanted: Vec<IpAddr> = ips.iter().copied().filter(|ip| IpFamily::of(*ip) == family).collect();
        if wanted.is_empty() {
            continue;
        }
        let found = probe::addresses(server, name, family, until).map_err(|error| {
            Error::internal(format!("the container asks {server} for {name}: {error}")).details(
                "the responder is running: the host's firewall must accept UDP and TCP to port 53 there",
            )
        })?;
        if let Some(ip) = wanted.iter().find(|ip| !found.contains(ip)) {
            return Err(Error::internal(format!(
                "{server} does not answer {ip} for {name}: it answers {found:?}"
            )));
        }
    }
    Ok(())
}

/// The records, if they agree with the plan.
fn recorded(plan: &Plan, place: &Place) -> Result<(Network, Attachment), Error> {
    let unreadable = |error| Error::internal(format!("a record of network {}: {error}", plan.network.name));
    let mut drifts = Vec::new();
    let attachment = place.attachment(&plan.network.name, &plan.attachment.key).map_err(unreadable)?;
    match &attachment {
        None => drifts.push("the container is not recorded".to_owned()),
        Some(found) => drifts_of_attachment(&plan.attachment, found, &mut drifts),
    }
    let network = place.network(&plan.network.name).map_err(unreadable)?;
    match &network {
        None => drifts.push("the network is not recorded".to_owned()),
        Some(found) => {
            let wanted = &plan.network;
            differ("mode", &wanted.mode, &found.mode, &mut drifts);
            for ip in wanted.listen.iter().filter(|ip| !found.listen.contains(ip)) {
                drifts.push(format!("address {ip} of the responder is not recorded"));
            }
        }
    }
    match network.zip(attachment) {
        Some(recorded) if drifts.is_empty() => Ok(recorded),
        _ => Err(Error::internal(format!(
            "names of container {} ({}) have drifted: {}",
            plan.attachment.key.container,
            plan.attachment.key.ifname,
            drifts.join("; ")
        ))),
    }
}

fn drifts_of_attachment(wanted: &Attachment, found: &Attachment, drifts: &mut Vec<String>) {
    differ("names", &wanted.names, &found.names, drifts);
    differ("addresses", &wanted.ips, &found.ips, drifts);
    differ("upstreams", &wanted.upstreams, &found.upstreams, drifts);
    differ("link", &wanted.ingress, &found.ingress, drifts);
}

fn differ<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T, drifts: &mut Vec<String>) {
    if wanted != found {
        drifts.push(format!("{what}: expected {wanted:?}, actual {found:?}"));
    }
}
