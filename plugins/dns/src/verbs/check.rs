//! CHECK: compares the records with the plan and queries the responder, and repairs what it can
//! without the container.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use cni::{AddResult, Error, Request};
use sys::{IpFamily, NetNs};

use super::ResolverRules;
use crate::config::Config;
use crate::container::Sockets;
use crate::control::ControlRequest;
use crate::plan::{self, Plan};
use crate::record::{Attachment, Mode, Network, StateDir};
use crate::responder::ResponderClient;
use crate::{container, dnsname, facts, locate, probe, restore};

/// How long all queries may take: a lost datagram is no drift.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The same for sockets in the container, before they are reopened: nothing is lost on a
/// loopback.
const TIMEOUT_INSIDE: Duration = Duration::from_secs(1);

/// Verifies the records, and queries the container's primary name.
///
/// # Errors
/// Every difference, with expected and actual value.
pub fn check(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let previous =
        request.prev_result()?.ok_or_else(|| Error::invalid_config("Required prevResult missing"))?;
    let (state_dir, socket) = locate::state_dir(config.state_dir.as_deref())?;
    if config.optional && !state_dir.has_attachment(&request.network, &plan::key(request)) {
        return Ok(());
    }
    let plan = plan::plan(&config, request, &previous, &facts::look(&previous)?)?;
    let mut responder = ResponderClient::new(&state_dir, socket);
    let lock = state_dir.lock()?;
    restore::restore(&state_dir)?;
    let (network, attachment) = match recorded(&plan, &state_dir) {
        Err(_) if dnsname::serves(&state_dir, &plan.attachment, &mut responder)? => return Ok(()),
        recorded => recorded?,
    };
    let resolver_rules = ResolverRules::install(&network)?;
    let sync = ControlRequest::Sync { network: network.name.clone(), key: Some(plan.attachment.key.clone()) };
    responder.call(&sync, &[])?;
    // A container that blocks answers makes nobody else wait.
    drop(lock);
    match network.mode {
        // From the container's namespace: the host's firewall accepts queries of the
        // host itself.
        Mode::Gateway => NetNs::open(&request.netns)?
            .enter(|| {
                let until = Instant::now() + TIMEOUT;
                plan.network.listen.iter().try_for_each(|server| verify_answers(*server, &plan, until))
            })?
            .map_err(|error| match &resolver_rules.firewall_error {
                Some(firewall_error) => error.details(format!("{firewall_error:#}")),
                None => error,
            }),
        Mode::Netns => inside(request, &plan, &attachment, &previous, &state_dir, &mut responder),
    }
}

/// Verifies sockets in the container's namespace, and reopens those that a killed responder
/// lost.
fn inside(
    request: &Request,
    plan: &Plan,
    found: &Attachment,
    previous: &AddResult,
    state_dir: &StateDir,
    responder: &mut ResponderClient<'_>,
) -> Result<(), Error> {
    let Some(netns) = container::namespace(&request.netns, found.namespace)? else {
        return Err(Error::internal(format!(
            "names of container {} ({}) have drifted: {} is not the network namespace of ADD",
            found.key.container, found.key.ifname, request.netns
        )));
    };
    let configured = previous.dns.nameservers.iter().filter_map(|server| cni::parse_ip(server).ok());
    let servers: Vec<IpAddr> = configured.filter(IpAddr::is_loopback).collect();
    let until = Instant::now() + TIMEOUT_INSIDE;
    let all =
        || netns.enter(|| servers.iter().try_for_each(|server| verify_answers(*server, plan, until)))?;
    if !servers.is_empty() && all().is_ok() {
        return Ok(());
    }
    let lock = state_dir.lock()?;
    let sockets = Sockets::open(&netns, &request.network, &plan.attachment.key)?;
    let address = sockets.address.into();
    sockets.hand_over(&request.network, &plan.attachment.key, |request, fds| responder.call(request, fds))?;
    drop(lock);
    netns.enter(|| verify_answers(address, plan, Instant::now() + TIMEOUT))?
}

/// Queries one server for the primary name: the answer must contain every address of the
/// container.
fn verify_answers(server: IpAddr, plan: &Plan, until: Instant) -> Result<(), Error> {
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
fn recorded(plan: &Plan, state_dir: &StateDir) -> Result<(Network, Attachment), Error> {
    let unreadable = |error| Error::internal(format!("a record of network {}: {error}", plan.network.name));
    let mut drifts = Vec::new();
    let attachment = state_dir.attachment(&plan.network.name, &plan.attachment.key).map_err(unreadable)?;
    match &attachment {
        None => drifts.push("the container is not recorded".to_owned()),
        Some(found) => drifts_of_attachment(&plan.attachment, found, &mut drifts),
    }
    let network = state_dir.network(&plan.network.name).map_err(unreadable)?;
    match &network {
        None => drifts.push("the network is not recorded".to_owned()),
        Some(found) => {
            let wanted = &plan.network;
            compare("mode", &wanted.mode, &found.mode, &mut drifts);
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
    compare("names", &wanted.names, &found.names, drifts);
    compare("addresses", &wanted.ips, &found.ips, drifts);
    compare("upstreams", &wanted.upstreams, &found.upstreams, drifts);
    compare("link", &wanted.ingress, &found.ingress, drifts);
}

fn compare<T: PartialEq + std::fmt::Debug>(what: &str, wanted: &T, found: &T, drifts: &mut Vec<String>) {
    if wanted != found {
        drifts.push(format!("{what}: expected {wanted:?}, actual {found:?}"));
    }
}
