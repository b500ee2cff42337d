//! Takes over from the plugin `dnsname`: for each network it left a dnsmasq, on the port that
//! the responder needs, and a hosts file with container names. Those containers keep running,
//! and must be found by these names until their own next ADD or DEL.

mod dir;

use std::net::IpAddr;

use cni::{Error, Request};

use crate::control::ControlRequest;
use crate::plan::{self, Plan};
use crate::port_holder;
use crate::record::{Attachment, Network, StateDir, VERSION, dnsname_key};
use crate::responder::ResponderClient;
use dir::{DnsnameDir, Host};

/// Stops the network's dnsmasq and records its names, if dnsname served it; then returns the
/// network's new record. Callers hold the plugins' lock.
///
/// # Errors
/// Its dnsmasq does not exit, or the kernel refused. Records written until then stay; they are
/// correct.
pub fn take_over(plan: &Plan, state_dir: &StateDir, network: &Network) -> Result<Option<Network>, Error> {
    let Some(dnsname_dir) = DnsnameDir::of(&network.name) else { return Ok(None) };
    let _lock = dnsname_dir.lock()?;
    let network = Network { from_dnsname: true, ..network.clone() };
    state_dir.put_network(&network)?;
    for host in dnsname_dir.hosts()? {
        if !plan.attachment.ips.contains(&host.ip)
            && let Some(record) = record_of(host, &network.name)
        {
            state_dir.put_attachment(&record)?;
        }
    }
    // A dnsmasq without pid file is found by its port.
    let holder = || port_holder::find(&plan.network.listen, plan.network.port).map(|holder| holder.pid);
    let ended = dnsname_dir.stop(holder)?;
    dnsname_dir.remove()?;
    if let Some(pid) = ended {
        eprintln!(
            "dns: network {}: took over the names of dnsname, and ended its dnsmasq ({pid})",
            network.name
        );
    }
    Ok(Some(network))
}

/// The record of an entry. Invalid names, which dnsname accepts, are left out.
fn record_of(host: Host, network: &str) -> Option<Attachment> {
    let valid = host.names.iter().filter_map(|name| names::parse(name, None).ok());
    let mut names: Vec<String> = Vec::new();
    for name in valid.take(names::NAMES_MAX) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then(|| Attachment {
        v: VERSION,
        network: network.to_owned(),
        key: dnsname_key(host.ip),
        names,
        ips: vec![host.ip],
        upstreams: None,
        ingress: None,
        netns: None,
        namespace: None,
        // Before all later attachments.
        order: 0,
    })
}

/// Removes records taken over from dnsname for a container that has a record of its own now.
///
/// # Errors
/// The kernel refused.
pub fn replaced(state_dir: &StateDir, network: &Network, ips: &[IpAddr]) -> Result<(), Error> {
    if network.from_dnsname {
        for ip in ips {
            state_dir.remove_attachment(&network.name, &dnsname_key(*ip))?;
        }
    }
    Ok(())
}

/// DEL of a container without a record of its own: removes what dnsname knows of it, whether
/// taken over or not.
///
/// # Errors
/// The kernel refused.
pub fn forget(state_dir: &StateDir, request: &Request) -> Result<(), Error> {
    let target = Target::of(request);
    let network = &request.network;
    if matches!(state_dir.network(network), Ok(Some(record)) if record.from_dnsname) {
        for record in state_dir.scan_network(network)?.attachments {
            let is_of_dnsname = record.ips.iter().any(|ip| record.key == dnsname_key(*ip));
            if is_of_dnsname && target.matches(record.ips.first().copied(), record.names.first()) {
                state_dir.remove_attachment(network, &record.key)?;
            }
        }
    }
    match DnsnameDir::of(network) {
        None => Ok(()),
        Some(dnsname_dir) => {
            let _lock = dnsname_dir.lock()?;
            dnsname_dir.forget(|host| target.matches(Some(host.ip), host.names.first()))
        }
    }
}

/// What DEL removes: addresses from the previous result, or else a name, as dnsname did.
struct Target {
    ips: Vec<IpAddr>,
    name: Option<String>,
}

impl Target {
    fn of(request: &Request) -> Self {
        let previous = request.prev_result().ok().flatten();
        let ips = previous.and_then(|result| plan::addresses(&result).ok()).unwrap_or_default();
        Self { ips: ips.iter().map(|net| net.ip()).collect(), name: names::pod_name(&request.args) }
    }

    fn matches(&self, ip: Option<IpAddr>, name: Option<&String>) -> bool {
        if self.ips.is_empty() {
            return name.zip(self.name.as_ref()).is_some_and(|(is, was)| is.eq_ignore_ascii_case(was));
        }
        ip.is_some_and(|ip| self.ips.contains(&ip))
    }
}

/// Whether a container without a record of its own is served from dnsname's data. Then CHECK
/// passes.
///
/// # Errors
/// The data has been taken over, and the responder cannot serve it.
pub fn serves(
    state_dir: &StateDir,
    attachment: &Attachment,
    responder: &mut ResponderClient<'_>,
) -> Result<bool, Error> {
    let network = &attachment.network;
    let ours = |ip: &IpAddr| state_dir.has_attachment(network, &dnsname_key(*ip));
    if attachment.ips.iter().all(ours) {
        responder.call(&ControlRequest::Sync { network: network.clone(), key: None }, &[])?;
        return Ok(true);
    }
    let Some(dnsname_dir) = DnsnameDir::of(network) else { return Ok(false) };
    let hosts = dnsname_dir.hosts()?;
    let known = |ip: &IpAddr| hosts.iter().any(|host| host.ip == *ip);
    Ok(attachment.ips.iter().all(known) && dnsname_dir.runs()?)
}
