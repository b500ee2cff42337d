//! The commands of the plugin.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::control::{self, Outcome};
use cluster::local::Blocks;
use cni::{AddResult, Code, Error, Plugin, Request, ValidAttachments};
use leases::{DATA_DIR, Holder, Place, Roots, resolv};
use serde::Deserialize;

use crate::config::{Settings, settings};
use crate::give::{Give, closed, not_held};
use crate::host::{Host, Open};
use crate::offer::{self, Lack};

/// A call that nobody waits for takes at most this part of `timeoutMs`.
const SHARE: u32 = 4;
/// `timeoutMs` where the host's configuration cannot be read.
const TIMEOUT: Duration = Duration::from_millis(3000);

/// The plugin.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The paths of the kernel's files and of the state of this boot.
    pub roots: Roots,
    /// Where the directories of networks are.
    pub data_dir: PathBuf,
    /// The files of this host, and its agent.
    pub host: Host,
}

impl Default for Cluster {
    fn default() -> Self {
        Self { roots: Roots::default(), data_dir: DATA_DIR.into(), host: Host::default() }
    }
}

/// Who calls, of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
struct Caller {
    r#type: Option<String>,
}

/// The configuration of the host, where nothing else can be read.
#[derive(Clone, Debug, Default, Deserialize)]
struct OfHost {
    cluster: Option<String>,
}

impl Plugin for Cluster {
    const NAME: &'static str = "cluster";
    const ABOUT: &'static str = "gives containers addresses that are unique over the hosts of a cluster";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let settings = settings(request)?;
        let host = self.host.open(settings.host_conf.clone(), &request.path)?;
        let conf = host.settings()?;
        let timeout = Duration::from_millis(conf.timeout_ms.into());
        let by_overlay = request.config::<Caller>()?.r#type.is_some_and(|name| name == "overlay");
        let dns = settings.resolv_conf.as_deref().map(resolv::read).transpose()?.unwrap_or_default();
        let place = self.place(&request.network);
        let give = Give {
            roots: &self.roots,
            place: &place,
            host: &host,
            settings: &settings,
            conf: &conf,
            by_overlay,
            deadline: Instant::now() + timeout,
        };
        let given = give.give((&request.container_id, &request.ifname))?;
        // `overlay` tells its agent of every attachment.
        if given.low && !by_overlay {
            tell(&host, &request.network, timeout);
        }
        Ok(AddResult { ips: given.ips, routes: settings.routes, dns, ..AddResult::default() })
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let settings = settings(request)?;
        let place = self.place(&request.network);
        let result = request.prev_result()?;
        let ours = |ip: &IpAddr| settings.want.subnets.iter().any(|subnet| subnet.contains(*ip));
        let expected: Vec<IpAddr> =
            result.iter().flat_map(|result| &result.ips).map(|ip| ip.address.ip()).filter(ours).collect();
        leases::check(
            &self.roots,
            &place,
            (&request.container_id, &request.ifname),
            expected.iter().copied(),
        )?;
        let host = self.host.open(settings.host_conf.clone(), &request.path)?;
        let blocks = host.blocks(&request.network);
        let not_held = |ip| not_held(&settings, blocks.as_ref(), ip, || owner(&host, &request.network, ip));
        match expected.into_iter().find_map(not_held) {
            Some(difference) => Err(Error::internal(difference)),
            None => Ok(()),
        }
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let holder = Holder::new(&request.container_id, &request.ifname);
        let gone = leases::release(&self.roots, &self.place(&request.network), &holder)?;
        self.give_back(request, &gone);
        Ok(())
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let gone = leases::collect(&self.roots, &self.place(&request.network), &valid)?;
        self.give_back(request, &gone);
        Ok(())
    }

    /// The directory is writable, and every subnet has a free address, here or at another host.
    fn status(&self, request: &Request) -> Result<(), Error> {
        let mut settings = settings(request)?;
        settings.asked.fill(None);
        let host = self.host.open(settings.host_conf.clone(), &request.path)?;
        let timeout = host.timeout()?;
        let place = self.place(&request.network);
        leases::writable(&place)?;
        match host.blocks(&request.network) {
            Some(blocks) if blocks.closed => {
                Err(Error { code: Code::NotAvailable as u32, ..closed(&request.network) })
            }
            Some(blocks) => self.status_of_blocks(&host, &place, &settings, &blocks, timeout),
            None => status_of_new_network(&host, &request.network, timeout),
        }
    }
}

impl Cluster {
    /// The place of the leases. Nothing but the network's name counts.
    fn place(&self, network: &str) -> Place {
        Place {
            plugin: Self::NAME,
            data_dir: self.data_dir.clone(),
            network: network.to_owned(),
            reclaim: true,
            cooldown: true,
        }
    }

    /// Tells the agent of borrowed addresses that nobody has any more.
    fn give_back(&self, request: &Request, gone: &[IpAddr]) {
        if gone.is_empty() {
            return;
        }
        let of_host = request.config::<OfHost>().unwrap_or_default().cluster.map(PathBuf::from);
        let settings = of_host.filter(|path| path.is_absolute());
        let Ok(host) = self.host.open(settings, &request.path) else { return };
        let blocks = host.blocks(&request.network).unwrap_or_default();
        if gone.iter().any(|ip| blocks.borrowed.contains(ip)) {
            tell(&host, &request.network, host.timeout().unwrap_or(TIMEOUT));
        }
    }

    fn status_of_blocks(
        &self,
        host: &Open,
        place: &Place,
        settings: &Settings,
        blocks: &Blocks,
        timeout: Duration,
    ) -> Result<(), Error> {
        let lack = match offer::offer(settings, blocks) {
            Ok(offer) => match leases::full_set(&self.roots, place, &offer)? {
                None => return Ok(()),
                Some(full) => full.index,
            },
            Err(Lack::Any(index)) => index,
            Err(Lack::Address(_) | Lack::Blocks | Lack::Closed) => 0,
        };
        // What the agent gets now serves the next ADD.
        let request = control::Request::Block { network: place.network.clone(), address: None, subnet: lack };
        let why = match host.ask(&request, timeout) {
            Ok(answer) if answer.outcome == Outcome::Done => return Ok(()),
            Ok(answer) => answer.why.unwrap_or_default(),
            Err(error) => error.msg,
        };
        let subnet = settings.want.subnets.get(lack).map(ToString::to_string).unwrap_or_default();
        Err(Error::new(
            Code::NotAvailable,
            format!(
                "cluster: every address of {subnet} that this host has is leased, and there is no other: {why}"
            ),
        ))
    }
}

/// Whose an address is, by the agent.
fn owner(host: &Open, network: &str, address: IpAddr) -> String {
    let request = control::Request::Holder { network: network.to_owned(), address };
    let answer = host.timeout().and_then(|timeout| host.ask(&request, timeout));
    match answer.map(|answer| (answer.outcome, answer.why)) {
        Ok((Outcome::Done, Some(owner))) => owner,
        Ok((_, why)) => format!("the agent does not know whose: {}", why.unwrap_or_default()),
        Err(error) => format!("the agent cannot say whose: {}", error.msg),
    }
}

/// Has the agent look at the leases. A failure is a line: the agent looks by itself later.
fn tell(host: &Open, network: &str, timeout: Duration) {
    let request = control::Request::Sync { network: network.to_owned(), wait: false };
    if let Err(error) = host.ask(&request, timeout / SHARE) {
        eprintln!("cluster: the agent was not told of leases of network {network}: {}", error.msg);
    }
}

/// A network that this host never had: its agent must be there, and reach etcd.
fn status_of_new_network(host: &Open, network: &str, timeout: Duration) -> Result<(), Error> {
    let why = match host.ask(&control::Request::Status, timeout) {
        Ok(answer) => match answer.status {
            Some(status) if status.member.is_some() => return Ok(()),
            Some(status) => status.away.unwrap_or_else(|| "etcd is away".to_owned()),
            None => answer.why.unwrap_or_default(),
        },
        Err(error) => error.msg,
    };
    let msg = format!("cluster: this host has no address of network {network}: {why}");
    Err(Error::new(Code::NotAvailable, msg))
}

#[cfg(test)]
mod tests;
