//! ADD: the container is found by its names when this returns.

use std::net::IpAddr;

use cni::{AddResult, Code, Error, Request};
use sys::NetNs;

use super::del::withdraw;
use super::{Way, of_outside};
use crate::config::Config;
use crate::container::Sockets;
use crate::control::Ask;
use crate::plan::{self, Plan};
use crate::record::{ATTACHMENTS_MAX, Attachment, Mode, Place};
use crate::responder::Responder;
use crate::{dnsname, facts, names, place, restore, rival};

/// Registers the container and adds its name servers to the result.
///
/// # Errors
/// Nothing is left behind.
pub fn add(request: &Request) -> Result<AddResult, Error> {
    let config = Config::of(request)?;
    let previous = request.prev_result()?.ok_or_else(|| {
        Error::new(Code::InvalidConfig, "must be called as chained plugin").details("there is no prevResult")
    })?;
    previous.convertible_to(request.version)?;
    match attach(&config, request, &previous) {
        Ok(servers) => {
            for name in config
                .names
                .iter()
                .filter(|name| names::is_of_outside(name, config.domain.as_deref(), &request.network))
            {
                eprintln!("dns: {}", of_outside(&request.container_id, name, &request.network));
            }
            Ok(plan::answered(&config, previous, &servers))
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
    let (place, socket) = place::here(config.state_dir.as_deref())?;
    let mut responder = Responder::new(&place, socket);
    let _lock = place.lock()?;
    restore::restore(&place)?;
    names_are_free(&plan, &place)?;
    // An unreadable record is replaced.
    let former = place.attachment(&request.network, &plan.attachment.key).ok().flatten();
    if former.is_none() && place.count(&request.network)? >= ATTACHMENTS_MAX {
        return Err(Error::internal(format!(
            "network {} has {ATTACHMENTS_MAX} named attachments: there is no room for another",
            request.network
        )));
    }
    let attachment = Attachment { order: sys::clock::since_boot()?, ..plan.attachment.clone() };
    register(&plan, &attachment, netns.as_ref(), &place, &mut responder).inspect_err(|_| {
        let undone = match former.filter(|former| former.netns.is_none()) {
            Some(former) => place.put_attachment(&former).map_err(Error::from).and_then(|()| {
                let ask = Ask::Sync { network: request.network.clone(), key: Some(former.key) };
                responder.ask_if_there(&ask, &[]).map(drop)
            }),
            None => withdraw(&place, &mut responder, request, false).map(drop),
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
    place: &Place,
    responder: &mut Responder<'_>,
) -> Result<Vec<IpAddr>, Error> {
    let former = place.network(&plan.network.name).ok().flatten();
    let mut network = plan.joined(former.as_ref(), |ip| facts::is_here(ip).unwrap_or(false));
    place.put_network(&network)?;
    if former.is_none()
        && netns.is_none()
        && let Some(taken) = dnsname::take_over(plan, place, &network)?
    {
        network = taken;
    }
    let way = Way::keep(&network)?;
    if let Some(error) = &way.closed {
        eprintln!("dns: network {}: {error:#}", network.name);
    }
    match netns {
        None => {
            place.put_attachment(attachment)?;
            dnsname::replaced(place, &network, &attachment.ips)?;
            let ask = Ask::Sync { network: network.name.clone(), key: Some(attachment.key.clone()) };
            let served = match responder.ask(&ask, &[]) {
                // A dnsmasq may have been started after our first ADD.
                Err(_) if dnsname::take_over(plan, place, &network)?.is_some() => responder.ask(&ask, &[]),
                done => done,
            };
            served.map_err(|error| match rival::holder(&plan.network.listen, plan.network.port) {
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
            place.put_attachment(&Attachment { namespace, ..attachment.clone() })?;
            let address = sockets.address.into();
            sockets.hand_over(&attachment.network, &attachment.key, |ask, fds| responder.ask(ask, fds))?;
            Ok(vec![address])
        }
    }
}

/// Refuses names inside another network's domain, which that network would answer.
fn names_are_free(plan: &Plan, place: &Place) -> Result<(), Error> {
    let names = || plan.attachment.names.iter().filter(|name| name.contains('.'));
    if names().next().is_none() {
        return Ok(());
    }
    for other in place.networks()? {
        let Some(domain) = other.domain.filter(|domain| plan.network.domain.as_ref() != Some(domain)) else {
            continue;
        };
        let inside = |name: &&String| {
            name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        if other.name != plan.network.name
            && let Some(name) = names().find(inside)
        {
            return Err(Error::new(
                Code::InvalidConfig,
                format!("name {name} is in the domain {domain} of network {}", other.name),
            ));
        }
    }
    Ok(())
}
