//! ADD: an address of each subnet, from the files of this host; from its agent what they lack.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use cluster::block::Space;
use cluster::control::{Answer, Outcome, Request};
use cluster::local::Blocks;
use cluster::net;
use cluster::record::Net;
use cluster::settings::{Settings as HostSettings, WhenUnreachable};
use cni::{Code, Error, IpConfig};
use leases::{AllocError, Holder, Place, Roots, Store};

use crate::config::Settings;
use crate::host::Open;
use crate::offer::{self, Lack};

/// The first pause before the files are read again, when others took what the agent gave. It
/// doubles.
const PAUSE: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What an ADD of a network needs.
pub struct Give<'a> {
    pub roots: &'a Roots,
    pub place: &'a Place,
    pub host: &'a Open,
    pub settings: &'a Settings,
    /// The configuration of the host.
    pub conf: &'a HostSettings,
    /// Whether `overlay` calls, which makes the network's record itself.
    pub by_overlay: bool,
    /// The end of all waiting for the agent.
    pub deadline: Instant,
}

/// The addresses of an ADD.
pub struct Given {
    pub ips: Vec<IpConfig>,
    /// Whether so few are left that the agent should know.
    pub low: bool,
}

impl Give<'_> {
    /// Leases an address of each subnet to the container's interface; the same ones again if it has
    /// some.
    pub fn give(&self, (container_id, ifname): (&str, &str)) -> Result<Given, Error> {
        self.host.keep_limits(&self.place.network, &self.settings.limits)?;
        let net = self.agree()?;
        if !self.by_overlay && self.conf.when_unreachable == WhenUnreachable::Fail {
            self.reach()?;
        }
        let holder = Holder::new(container_id, ifname);
        let mut pause = PAUSE;
        loop {
            let lack = match self.try_once(&holder, container_id)? {
                Ok(given) => return Ok(given),
                Err(lack) => lack,
            };
            if Instant::now() >= self.deadline {
                return Err(self.nothing(lack));
            }
            self.ask_for(lack, &net)?;
            // What the agent got is there now, for everybody: the next one to lock takes it.
            if let Ok(given) = self.try_once(&holder, container_id)? {
                return Ok(given);
            }
            thread::sleep(pause.min(self.deadline.saturating_duration_since(Instant::now())));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Requires that etcd answers: `overlay` finds that out when it has its container published.
    fn reach(&self) -> Result<(), Error> {
        let request = Request::Sync { network: self.place.network.clone(), wait: true };
        self.ask(request, || "reach etcd, as whenUnreachable wants".to_owned()).map(drop)
    }

    /// The network's record, which the configuration must agree with; made by the agent where there
    /// is none.
    fn agree(&self) -> Result<Net, Error> {
        let network = &self.place.network;
        let have = match self.host.net(network) {
            Some(net) => net,
            None if self.by_overlay => {
                return Err(Error::new(
                    Code::TryAgainLater,
                    format!("cluster: the record of network {network} is gone; it was there before"),
                ));
            }
            None => self.network(self.settings.want.clone())?,
        };
        let mine = &self.settings.want;
        let want = Net {
            vni: self.by_overlay.then_some(0),
            subnets: mine.subnets.clone(),
            gateways: mine.gateways.clone(),
            block_size: mine.block_size,
            ..have.clone()
        };
        let found: Vec<String> = net::differences(&want, &have).iter().map(ToString::to_string).collect();
        if found.is_empty() {
            Ok(have)
        } else {
            Err(Error::invalid_config(format!("cluster: network {network}: {}", found.join("; "))))
        }
    }

    fn network(&self, want: Net) -> Result<Net, Error> {
        let network = self.place.network.clone();
        let answer =
            self.ask(Request::Network { network, want }, || "make the network's record".to_owned())?;
        answer.net.ok_or_else(|| {
            Error::internal(format!(
                "cluster: the agent (process {}) answered without the record of network {}",
                answer.pid, self.place.network
            ))
        })
    }

    /// Takes addresses of this host, or tells what is lacking. The lock of the leases covers
    /// `blocks.json` too: the agent writes it under the same one.
    fn try_once(&self, holder: &Holder, container_id: &str) -> Result<Result<Given, Lack>, Error> {
        let mut store = Store::open(self.roots, self.place)?;
        let Some(blocks) = self.host.blocks(&self.place.network) else {
            store.commit();
            return Ok(Err(Lack::Blocks));
        };
        // A boot in which etcd was not heard of counts as a long time without it.
        let is_unheard = self.conf.reclaim_after_s != 0 && !self.host.was_in_contact();
        if blocks.closed || is_unheard {
            store.commit();
            return Ok(Err(Lack::Closed));
        }
        if let Some(ip) = self.settings.asked.iter().flatten().find(|ip| blocks.own.contains(ip)) {
            return Err(Error::new(
                Code::TryAgainLater,
                format!("cluster: address {ip} is asked for, but it is this host's own one"),
            ));
        }
        let offer = match offer::offer(self.settings, &blocks) {
            Ok(offer) => offer,
            Err(lack) => {
                store.commit();
                return Ok(Err(lack));
            }
        };
        let asked: Vec<IpAddr> = self.settings.asked.iter().copied().flatten().collect();
        match leases::allocate(&mut store, &offer, &asked, holder, container_id) {
            Ok(ips) => {
                let low = store.count().is_some_and(|count| offer::is_low(self.settings, &blocks, count));
                Ok(Ok(Given { ips, low }))
            }
            Err(AllocError::InSet(index, cause)) if matches!(*cause, AllocError::Exhausted(_)) => {
                Ok(Err(Lack::Any(index)))
            }
            Err(error) => Err(refusal(&store, error)),
        }
    }

    /// Has the agent get what is lacking.
    fn ask_for(&self, lack: Lack, net: &Net) -> Result<(), Error> {
        match lack {
            Lack::Blocks => self.network(net.clone()).map(drop),
            Lack::Address(ip) => self.block(Some(ip), lack),
            Lack::Any(_) => self.block(None, lack),
            Lack::Closed => self.network(net.clone()).map(drop).map_err(|error| {
                let closed = closed(&self.place.network);
                Error { msg: format!("{}: {}", closed.msg, error.msg), ..closed }
            }),
        }
    }

    fn block(&self, address: Option<IpAddr>, lack: Lack) -> Result<(), Error> {
        let subnet = match lack {
            Lack::Any(index) => index,
            Lack::Address(ip) => {
                self.settings.want.subnets.iter().position(|subnet| subnet.contains(ip)).unwrap_or_default()
            }
            Lack::Blocks | Lack::Closed => 0,
        };
        let network = self.place.network.clone();
        self.ask(Request::Block { network, address, subnet }, || self.lacking(lack)).map(drop)
    }

    /// A question to the agent; `what` is what for, in an error.
    fn ask(&self, request: Request, what: impl Fn() -> String) -> Result<Answer, Error> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let later = |why: String| Error::new(Code::TryAgainLater, format!("cluster: {}: {why}", what()));
        let answer = self.host.ask(&request, left).map_err(|error| later(error.msg))?;
        let why = || answer.why.clone().unwrap_or_else(|| "the agent does not say why".to_owned());
        match answer.outcome {
            Outcome::Done => Ok(answer),
            Outcome::Queued => Err(later(why())),
            Outcome::Failed => {
                let code = answer.code.unwrap_or(Code::TryAgainLater as u32);
                Err(Error { code, ..later(why()) })
            }
        }
    }

    fn lacking(&self, lack: Lack) -> String {
        let network = &self.place.network;
        match lack {
            Lack::Blocks | Lack::Closed => format!("get addresses of network {network} for this host"),
            Lack::Address(ip) => format!("get address {ip} of network {network} for this host"),
            Lack::Any(index) => {
                let subnet =
                    self.settings.want.subnets.get(index).map(ToString::to_string).unwrap_or_default();
                format!("get an address of {subnet} of network {network}: this host has no free one left")
            }
        }
    }

    fn nothing(&self, lack: Lack) -> Error {
        if lack == Lack::Closed {
            return closed(&self.place.network);
        }
        let msg = format!("cluster: {}, and others took what its agent got", self.lacking(lack));
        Error::new(Code::TryAgainLater, msg)
    }
}

/// Why nothing is given by a host that was cut off for too long.
pub fn closed(network: &str) -> Error {
    Error::new(
        Code::TryAgainLater,
        format!(
            "cluster: no address of network {network} is given: this host has not reached etcd for more than \
             half of reclaimAfterS, and its addresses may soon be another host's; see overlay status"
        ),
    )
}

/// The error of an allocation: of an address that was asked for, whose it is.
fn refusal(store: &Store, error: AllocError) -> Error {
    let mut cause = &error;
    while let AllocError::InSet(_, inner) = cause {
        cause = inner;
    }
    match cause {
        AllocError::Taken { ip, .. } => {
            let holder = store.holder_of(*ip).ok().flatten().map(|text| text.replace("\r\n", ", interface "));
            let holder = holder.unwrap_or_else(|| "another container".to_owned());
            let msg =
                format!("cluster: address {ip} is asked for, but on this host container {holder} has it");
            Error::new(Code::TryAgainLater, msg)
        }
        _ => error.into(),
    }
}

/// Whether the address of an attachment is this host's to give, as text for CHECK if not. `owner`
/// is asked for whose it is.
pub fn not_held(
    settings: &Settings,
    blocks: Option<&Blocks>,
    ip: IpAddr,
    owner: impl Fn() -> String,
) -> Option<String> {
    let space = Space::of(&settings.want).into_iter().find(|space| space.subnet.contains(ip))?;
    match blocks {
        Some(blocks) if offer::is_held(&space, blocks, ip) => None,
        Some(_) => Some(format!(
            "cluster: address {ip}: expected: in a block of this host, or lent to it, actual: another's: {}",
            owner()
        )),
        None => Some(format!(
            "cluster: address {ip}: expected: in a block of this host, actual: this host has no blocks of the network"
        )),
    }
}
