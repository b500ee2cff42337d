//! ADD: the container is found by its names when this returns.

use std::net::IpAddr;

use cni::{AddResult, Error, Request};
use sys::NetNs;

use super::del::remove_container;
use super::{ResolverRules, external_name_warning};
use crate::config::Config;
use crate::container::Sockets;
use crate::control::ControlRequest;
use crate::plan::{self, Plan};
use crate::record::{ATTACHMENTS_MAX, Attachment, Mode, StateDir};
use crate::responder::ResponderClient;
use crate::{dnsname, facts, locate, port_holder, restore};

/// Registers the container and adds its name servers to the result.
///
/// # Errors
/// Nothing is left behind.
pub fn add(request: &Request) -> Result<AddResult, Error> {
    let config = Config::of(request)?;
    let previous = request.prev_result()?.ok_or_else(|| {
        Error::invalid_config("must be called as chained plugin").details("there is no prevResult")
    })?;
    previous.convertible_to(request.version)?;
    match attach(&config, request, &previous) {
        Ok(servers) => {
            for name in config
                .names
                .iter()
                .filter(|name| names::is_external(name, config.domain.as_deref(), &request.network))
            {
                eprintln!("dns: {}", external_name_warning(&request.container_id, name, &request.network));
            }
            Ok(plan::with_name_servers(&config, previous, &servers))
        }
        Err(error) if config.optional => {
            eprintln!("dns: container {} goes without names (optional): {}", request.container_id, error.msg);
            Ok(previous)
        }
        Err(error) => Err(error),
    }
}

/// Registers the container; returns the addresses of its name servers.
fn attach(config: &Config, request: &Request, previous: &AddResult) -> Result<Vec<IpAddr>, Error> {
    let plan = plan::plan(config, request, previous, &facts::look(previous)?)?;
    let netns = match plan.network.mode {
        Mode::Gateway => None,
        Mode::Netns => Some(NetNs::open(&request.netns)?),
    };
    let (state_dir, socket) = locate::state_dir(config.state_dir.as_deref())?;
    let mut responder = ResponderClient::new(&state_dir, socket);
    let _lock = state_dir.lock()?;
    restore::restore(&state_dir)?;
    check_names(&plan, &state_dir)?;
    // An unreadable record is replaced.
    let former = state_dir.attachment(&request.network, &plan.attachment.key).ok().flatten();
    if former.is_none() && state_dir.count(&request.network)? >= ATTACHMENTS_MAX {
        return Err(Error::internal(format!(
            "network {} has {ATTACHMENTS_MAX} named attachments: there is no room for another",
            request.network
        )));
    }
    let attachment = Attachment { order: sys::clock::since_boot()?, ..plan.attachment.clone() };
    register(&plan, &attachment, netns.as_ref(), &state_dir, &mut responder).inspect_err(|_| {
        let undone = match former.filter(|former| former.netns.is_none()) {
            Some(former) => state_dir.put_attachment(&former).map_err(Error::from).and_then(|()| {
                let sync = ControlRequest::Sync { network: request.network.clone(), key: Some(former.key) };
                responder.call_if_running(&sync, &[]).map(drop)
            }),
            None => remove_container(&state_dir, &mut responder, request, false),
        };
        // The caller reports the first error.
        if let Err(error) = undone {
            eprintln!("dns: remove the names of container {}: {}", request.container_id, error.msg);
        }
    })
}

fn register(
    plan: &Plan,
    attachment: &Attachment,
    netns: Option<&NetNs>,
    state_dir: &StateDir,
    responder: &mut ResponderClient<'_>,
) -> Result<Vec<IpAddr>, Error> {
    let former = state_dir.network(&plan.network.name).ok().flatten();
    let mut network = plan.merged_with(former.as_ref(), |ip| facts::is_here(ip).unwrap_or(false));
    state_dir.put_network(&network)?;
    if former.is_none()
        && netns.is_none()
        && let Some(taken) = dnsname::take_over(plan, state_dir, &network)?
    {
        network = taken;
    }
    let resolver_rules = ResolverRules::install(&network)?;
    if let Some(error) = &resolver_rules.firewall_error {
        eprintln!("dns: network {}: {error:#}", network.name);
    }
    match netns {
        None => {
            state_dir.put_attachment(attachment)?;
            dnsname::replaced(state_dir, &network, &attachment.ips)?;
            let sync =
                ControlRequest::Sync { network: network.name.clone(), key: Some(attachment.key.clone()) };
            let served = match responder.call(&sync, &[]) {
                // A dnsmasq may have been started after our first ADD.
                Err(_) if dnsname::take_over(plan, state_dir, &network)?.is_some() => {
                    responder.call(&sync, &[])
                }
                done => done,
            };
            served.map_err(|error| match port_holder::find(&plan.network.listen, plan.network.port) {
                Some(holder) => {
                    error.details(format!("port {} there is in use by {holder}", plan.network.port))
                }
                None => error,
            })?;
            Ok(plan.network.listen.clone())
        }
        Some(netns) => {
            let sockets = Sockets::open(netns, &attachment.network, &attachment.key)?;
            let namespace = Some(sockets.namespace);
            state_dir.put_attachment(&Attachment { namespace, ..attachment.clone() })?;
            let address = sockets.address.into();
            sockets.hand_over(&attachment.network, &attachment.key, |request, fds| {
                responder.call(request, fds)
            })?;
            Ok(vec![address])
        }
    }
}

/// Refuses names inside another network's domain, which that network would answer.
fn check_names(plan: &Plan, state_dir: &StateDir) -> Result<(), Error> {
    let names = || plan.attachment.names.iter().filter(|name| name.contains('.'));
    if names().next().is_none() {
        return Ok(());
    }
    for other in state_dir.networks()? {
        let Some(domain) = other.domain.filter(|domain| plan.network.domain.as_ref() != Some(domain)) else {
            continue;
        };
        let inside = |name: &&String| {
            name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if other.name != plan.network.name
            && let Some(name) = names().find(inside)
        {
            return Err(Error::invalid_config(format!(
                "name {name} is in the domain {domain} of network {}",
                other.name
            )));
        }
    }
    Ok(())
}
