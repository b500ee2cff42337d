//! What the agent and its files know of a network, and what they are told of an attachment.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use agent::{Client, Files};
use cluster::control::{Outcome, Request as Ask};
use cluster::local::{Attachment, Namespace};
use cluster::net::differences;
use cluster::record::Net;
use cluster::settings::{Settings, WhenUnreachable};
use cni::{AddResult, Code, Error, Request};
use host::piece::overlay_device;
use netlink::Netlink;
use sys::NetNs;

use crate::answer::Links;
use crate::config::Config;

/// DEL waits for this part of `timeoutMs`.
const DEL_PART: u32 = 4;
/// Time between two questions for what the agent does not know yet.
const PAUSE: Duration = Duration::from_millis(20);
/// `timeoutMs` where the settings cannot be read.
const TIMEOUT_MS: u32 = 3000;

/// The agent's side of a call.
pub struct Cluster {
    files: Files,
    path: PathBuf,
    settings: Settings,
    cni_path: String,
}

/// A network on this host.
pub struct Known {
    /// Its record.
    pub net: Net,
    /// The host's own addresses in it.
    pub own: Vec<IpAddr>,
}

impl Cluster {
    /// Reads the settings.
    ///
    /// # Errors
    /// Code 7: the file or a key in it.
    pub fn of(request: &Request, config: &Config) -> Result<Self, Error> {
        Ok(Self {
            files: Files::of_process()?,
            path: config.cluster.clone(),
            settings: agent::read_settings(&config.cluster)?,
            cni_path: request.path.clone(),
        })
    }

    /// The UDP port of VXLAN packets.
    pub fn port(&self) -> u16 {
        self.settings.port
    }

    fn client(&self) -> Client<'_> {
        Client { files: &self.files, settings: &self.path, cni_path: &self.cni_path }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms.into())
    }

    fn ask(&self, ask: &Ask) -> Result<cluster::control::Answer, Error> {
        self.client().ask_or_start(ask, self.timeout())
    }

    /// The network's record and the host's own addresses in it: from the files, else by the agent,
    /// which makes them.
    ///
    /// # Errors
    /// Code 7: the configuration differs from the record. Code 11: neither this host nor etcd knows
    /// the network.
    pub fn network(&self, network: &str, config: &Config) -> Result<Known, Error> {
        let want = &config.want;
        if let Some(known) = self.on_file(network)? {
            refuse_differences(network, want, &known.net)?;
            return Ok(known);
        }
        self.files.keep_limits(network, &config.limits)?;
        let ask = Ask::Network { network: network.to_owned(), want: want.clone() };
        let answer = agent::accepted(self.ask(&ask)?)?;
        let known = self.on_file(network)?.ok_or_else(|| {
            let why = answer.why.unwrap_or_else(|| "the agent wrote no record of it".into());
            Error::new(Code::TryAgainLater, format!("network {network} is not known on this host: {why}"))
        })?;
        refuse_differences(network, want, &known.net)?;
        Ok(known)
    }

    /// The same from the files alone, where they are whole.
    ///
    /// # Errors
    /// One cannot be read.
    pub fn on_file(&self, network: &str) -> Result<Option<Known>, Error> {
        let Some(net) = self.files.net(network)? else { return Ok(None) };
        let Some(blocks) = self.files.blocks(network)? else { return Ok(None) };
        Ok((net.vni.is_some() && !blocks.own.is_empty()).then_some(Known { net, own: blocks.own }))
    }

    /// The source of this host's VXLAN packets: that of the network's device if there is one, else
    /// as configured, else as the agent knows it.
    ///
    /// # Errors
    /// Code 11: nobody knows it.
    pub fn source(&self, host: &Netlink, network: &str) -> Result<IpAddr, Error> {
        let device = host.link_by_name(&overlay_device(network))?;
        if let Some(local) = device.and_then(|device| device.vxlan).and_then(|info| info.local) {
            return Ok(local);
        }
        self.wanted_source()
    }

    /// As [`Cluster::source`], whatever the device has.
    ///
    /// # Errors
    /// Code 11: nobody knows it.
    pub fn wanted_source(&self) -> Result<IpAddr, Error> {
        if let Some(configured) = choose(&self.settings.host_addresses) {
            return Ok(configured);
        }
        let deadline = Instant::now() + self.timeout();
        loop {
            let answer = agent::accepted(self.ask(&Ask::Status)?)?;
            let status = answer.status.unwrap_or_default();
            if let Some(source) = choose(&status.addresses) {
                return Ok(source);
            }
            // An agent that has only just started learns it from its first connection to etcd.
            if status.away.is_some() || Instant::now() >= deadline {
                let path = self.path.display();
                let why = format!("the source of VXLAN packets is not known: set hostAddress in {path}");
                let error = Error::new(Code::TryAgainLater, why);
                return Err(error.details(status.away.unwrap_or_default()));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes the record of an attachment, and has the agent publish it.
    ///
    /// # Errors
    /// Code 11: the agent refused; or etcd is away, and the settings want a failure then.
    pub fn publish(
        &self,
        request: &Request,
        config: &Config,
        links: &Links,
        result: &AddResult,
    ) -> Result<(), Error> {
        let record = Attachment {
            v: cluster::VERSION,
            ips: result.ips.iter().map(|ip| ip.address.ip()).collect(),
            mac: links.container_mac.to_string(),
            names: config.names.clone(),
            netns: Namespace { path: request.netns.clone(), inode: NetNs::open(&request.netns)?.inode()? },
            veth: links.host_veth.clone(),
        };
        let Request { network, container_id, ifname, .. } = request;
        self.files.make()?;
        self.files.write_attachment(network, container_id, ifname, &record)?;
        let ask = Ask::Sync { network: network.clone(), wait: true };
        let began = Instant::now();
        // A packet that was not taken is sent once more, unless that was waited for.
        let asked = match self.ask(&ask) {
            Err(_) if began.elapsed() < self.timeout() / DEL_PART => self.ask(&ask),
            asked => asked,
        };
        let why = match asked.map(|answer| (answer.outcome, answer)) {
            Ok((Outcome::Done, _)) => return Ok(()),
            Ok((Outcome::Failed, answer)) => return agent::accepted(answer).map(drop),
            Ok((Outcome::Queued, answer)) => answer.why.unwrap_or_else(|| "etcd is away".into()),
            Err(error) => error.msg,
        };
        match self.settings.when_unreachable {
            WhenUnreachable::Fail => Err(Error::new(Code::TryAgainLater, why)),
            WhenUnreachable::Local => {
                eprintln!("overlay: container {container_id} is published later: {why}");
                Ok(())
            }
        }
    }

    /// CHECK: compares the record, and has the agent compare etcd and the kernel. Returns the
    /// differences.
    ///
    /// # Errors
    /// Code 11: there is no agent, and none could be started.
    pub fn check(&self, request: &Request, links: &Links, result: &AddResult) -> Result<Vec<String>, Error> {
        let Request { network, container_id, ifname, .. } = request;
        let mut differences = Vec::new();
        match self.files.attachment(network, container_id, ifname)? {
            None => differences.push("record of the attachment: expected present, actual missing".into()),
            Some(record) => {
                let ips: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
                let mac = links.container_mac.to_string();
                if record.ips != ips || record.mac != mac {
                    differences.push(format!(
                        "record of the attachment: expected {ips:?} {mac}, actual {:?} {}",
                        record.ips, record.mac
                    ));
                }
            }
        }
        let attachment = format!("{container_id}@{ifname}");
        let answer = self.ask(&Ask::Check { network: network.clone(), attachment })?;
        let answer = agent::accepted(answer)?;
        if answer.outcome == Outcome::Queued {
            let why = answer.why.unwrap_or_else(|| "etcd is away".into());
            eprintln!("overlay: CHECK of container {container_id} without etcd: {why}");
        }
        differences.extend(answer.differences);
        Ok(differences)
    }

    /// STATUS: the agent's faults, as code 50; what else people should know goes to standard error.
    ///
    /// # Errors
    /// Code 50.
    pub fn status(&self) -> Result<(), Error> {
        let unavailable = |error: Error| Error { code: Code::NotAvailable as u32, ..error };
        let answer = agent::accepted(self.ask(&Ask::Status).map_err(unavailable)?).map_err(unavailable)?;
        let status = answer.status.unwrap_or_default();
        for warning in status.warnings.iter().chain(&status.away) {
            eprintln!("overlay: {warning}");
        }
        match status.faults.is_empty() {
            true => Ok(()),
            false => Err(Error::new(Code::NotAvailable, status.faults.join("; "))),
        }
    }
}

/// DEL and an undone ADD: removes the record of an attachment, and has a running agent take it out
/// of etcd. Without an agent, the next one does.
///
/// # Errors
/// The record cannot be removed.
pub fn withdraw(request: &Request, settings: &Path) -> Result<(), Error> {
    let files = Files::of_process()?;
    if let Err(error) = files.attachment(&request.network, &request.container_id, &request.ifname) {
        eprintln!("overlay: {error:#}: it is removed");
    }
    files.remove_attachment(&request.network, &request.container_id, &request.ifname)?;
    // Also without a record: a DEL that was killed has removed it, and told nobody.
    tell(request, settings, &files);
    Ok(())
}

/// GC: as [`withdraw`], for all attachments of the network but these (`<container>@<ifname>`).
///
/// # Errors
/// The records cannot be listed, or one cannot be removed.
pub fn withdraw_but(request: &Request, settings: &Path, valid: &[String]) -> Result<(), Error> {
    let files = Files::of_process()?;
    for (name, _) in files.attachments(&request.network)? {
        if let Some((container, ifname)) = name.rsplit_once('@').filter(|_| !valid.contains(&name)) {
            files.remove_attachment(&request.network, container, ifname)?;
        }
    }
    tell(request, settings, &files);
    Ok(())
}

/// A failure is no error: the agent reads the files again.
fn tell(request: &Request, settings: &Path, files: &Files) {
    let timeout = agent::read_settings(settings).map_or(TIMEOUT_MS, |settings| settings.timeout_ms);
    let client = Client { files, settings, cni_path: &request.path };
    let ask = Ask::Sync { network: request.network.clone(), wait: true };
    let _ = client.ask(&ask, Duration::from_millis((timeout / DEL_PART).into()));
}

/// The one of a host's addresses that devices have: the IPv4 one, if there is one, so that all hosts
/// of a cluster choose one family.
fn choose(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().find(|address| address.is_ipv4()).or(addresses.first()).copied()
}

fn refuse_differences(network: &str, want: &Net, have: &Net) -> Result<(), Error> {
    let found = differences(want, have);
    if found.is_empty() {
        return Ok(());
    }
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    Err(Error::invalid_config(format!("network {network}: {}", found.join("; "))))
}
