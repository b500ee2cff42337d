//! Requests of plugins and of the tool.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cluster::block::Space;
use cluster::control::{Answer, Outcome, PROTOCOL, Request};
use cluster::key::{Key, is_name};
use cluster::net::differences;
use cluster::record::Net;
use daemon::Id;

use super::barred::Barred;
use super::{Engine, Pending, Response};
use crate::state::want::View;
use crate::steps::{self, Holder};

/// CNI codes.
pub(super) const INVALID: u32 = 7;
pub(super) const TRY_AGAIN: u32 = 11;
/// How long a block may be new, in which case whoever found the others full has not seen it.
const AHEAD: Duration = Duration::from_secs(2);

/// The response of this process.
pub(crate) fn answer(outcome: Outcome) -> Answer {
    Answer {
        protocol: PROTOCOL,
        build: cni::RELEASE.to_owned(),
        pid: std::process::id(),
        outcome,
        why: None,
        code: None,
        net: None,
        differences: Vec::new(),
        status: None,
    }
}

pub(crate) fn failed(code: u32, why: impl Into<String>) -> Answer {
    let why: String = why.into().chars().take(2000).collect();
    Answer { why: Some(why), code: Some(code), ..answer(Outcome::Failed) }
}

pub(super) fn queued(why: String) -> Answer {
    Answer { why: Some(why.chars().take(2000).collect()), ..answer(Outcome::Queued) }
}

impl Engine {
    /// Takes a request. The response may come later, by [`Engine::responses`].
    pub fn request(&mut self, id: Id, request: Request, now: Duration) {
        if let Request::Network { network, .. }
        | Request::Block { network, .. }
        | Request::Sync { network, .. } = &request
            && is_name(network)
        {
            if self.local.nets.contains_key(network) {
                self.refresh(network);
            } else if matches!(request, Request::Sync { .. }) {
                self.open_network(network);
            }
        }
        let grown = match &request {
            Request::Block { network, .. } => self.local.nets.get(network).map_or(0, |net| net.grown),
            _ => 0,
        };
        if matches!(request, Request::Block { address: None, .. }) {
            self.waited_for_block += 1;
        }
        // The plugin waits for as long; its answer must come before.
        let patience = Duration::from_millis(u64::from(self.settings.timeout_ms) * 9 / 10);
        // An ADD that has to be published is no success unless etcd answers now.
        if matches!(request, Request::Sync { wait: true, .. }) && self.must_reach() {
            self.check_due = now;
        }
        self.pending.push(Pending {
            id,
            request,
            since: now,
            deadline: now + patience,
            grown,
            refused: BTreeSet::new(),
        });
    }

    /// Forgets the requests of a connection that is gone.
    pub fn forget_requests(&mut self, is_open: impl Fn(Id) -> bool) {
        self.pending.retain(|pending| is_open(pending.id));
    }

    /// The responses that can be given now.
    pub fn responses(&mut self, now: Duration) -> Vec<Response> {
        let mut responses = Vec::new();
        let mut index = 0;
        while index < self.pending.len() {
            let judged = self.with_view(now, |view| self.judge(&self.pending[index], view));
            match judged {
                Some(answer) => {
                    let pending = self.pending.remove(index);
                    responses.push((pending.id, answer));
                }
                None => index += 1,
            }
        }
        responses
    }

    /// Notes which hosts have no address to lend: the next one is asked.
    pub fn note_refusals(&mut self) {
        for pending in &mut self.pending {
            let Request::Block { network, address: None, .. } = &pending.request else { continue };
            let key = Key::Ask { network: network.clone(), address: None, host: self.local.id.clone() };
            if let Some(ask) = self.cache.ask(&key).filter(|ask| ask.refused.is_some()) {
                pending.refused.extend(ask.of.clone());
            }
        }
    }

    fn judge(&self, pending: &Pending, view: &View<'_>) -> Option<Answer> {
        let is_late = view.now >= pending.deadline;
        match &pending.request {
            Request::Hello => Some(answer(Outcome::Done)),
            Request::Network { network, .. }
            | Request::Block { network, .. }
            | Request::Sync { network, .. }
            | Request::Check { network, .. }
            | Request::Holder { network, .. }
                if !is_name(network) =>
            {
                Some(failed(INVALID, "the network's name is invalid"))
            }
            Request::Network { network, want } => self.judge_network(network, want, is_late, view),
            Request::Block { network, address: Some(ip), .. } => {
                self.judge_address(network, *ip, is_late, view)
            }
            Request::Block { network, address: None, subnet } => {
                self.judge_any(network, *subnet, pending, is_late, view)
            }
            Request::Sync { network, wait } => {
                self.judge_sync(network, wait.then_some(pending.since), is_late, view)
            }
            Request::Holder { network, address } => Some(self.judge_holder(network, *address, view)),
            Request::Check { network, attachment } => self.judge_check(network, attachment, is_late, view),
            Request::Status => Some(Answer { status: Some(self.status(view)), ..answer(Outcome::Done) }),
            // The main loop does these.
            Request::Leave { .. } | Request::Reexec { .. } => None,
        }
    }

    fn judge_network(&self, network: &str, want: &Net, is_late: bool, view: &View<'_>) -> Option<Answer> {
        if let Some(Barred(answer)) = self.barred(is_late, view) {
            return answer;
        }
        if self.local.closed {
            return is_late.then(|| failed(TRY_AGAIN, self.why_closed()));
        }
        let known = view.local.nets.get(network);
        let copy = known.and_then(|net| net.copy.as_ref());
        if view.cache.is_whole() && !self.is_away(view.now) {
            if let Some((code, why)) = steps::why_not(view, network, want) {
                return Some(failed(code, why));
            }
        } else if let Some(copy) = copy {
            let differs = differences(want, copy);
            if !differs.is_empty() {
                let list = differs.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
                return Some(failed(INVALID, format!("network {network}: {list}")));
            }
        }
        if let (Some(copy), Some(known)) = (copy, known) {
            let spaces = Space::of(copy);
            let has_all = spaces.iter().all(|space| {
                known.blocks.blocks.iter().any(|first| space.is_block(*first))
                    && known.blocks.own.iter().any(|ip| space.subnet.contains(*ip))
            });
            if has_all {
                return Some(Answer { net: Some(copy.clone()), ..answer(Outcome::Done) });
            }
        }
        is_late.then(|| failed(TRY_AGAIN, format!("network {network}: {}", self.why_no_block(network, view))))
    }

    /// Why a network has no block here.
    fn why_no_block(&self, network: &str, view: &View<'_>) -> String {
        if self.is_away(view.now) || !view.cache.is_whole() {
            return format!("no block of addresses is known here, and {}", self.why_away(view.now));
        }
        if view.cache.has(&Key::Net(network.to_owned())) {
            let free = steps::free_of(view, network, 0);
            return format!(
                "no block of addresses could be claimed; free addresses: {}",
                self.counts(&free, view)
            );
        }
        "its record was not made in time".to_owned()
    }

    fn counts(&self, free: &[(String, usize)], view: &View<'_>) -> String {
        let name = |host: &str| {
            view.cache.host(&Key::Host(host.to_owned())).map_or(host.to_owned(), |host| host.name.clone())
        };
        let counts: Vec<String> =
            free.iter().take(20).map(|(host, free)| format!("{} ({host}) {free}", name(host))).collect();
        if counts.is_empty() { "no host has a block".to_owned() } else { counts.join(", ") }
    }

    fn judge_address(&self, network: &str, ip: IpAddr, is_late: bool, view: &View<'_>) -> Option<Answer> {
        if let Some(Barred(answer)) = self.barred(is_late, view) {
            return answer;
        }
        if self.local.closed {
            return Some(failed(TRY_AGAIN, self.why_closed()));
        }
        let known = view.local.nets.get(network)?;
        let blocks = &known.blocks;
        let record = known.copy.as_ref()?;
        let Some(space) = Space::with(record, ip).filter(|space| space.is_usable(ip)) else {
            return Some(failed(INVALID, format!("network {network} has no address {ip} to give")));
        };
        let first = space.block_of(ip)?;
        if blocks.own.contains(&ip) {
            return Some(failed(TRY_AGAIN, format!("{ip} is this host's own address in network {network}")));
        }
        if blocks.blocks.contains(&first) && !blocks.lent.contains(&ip) || blocks.borrowed.contains(&ip) {
            return Some(answer(Outcome::Done));
        }
        if self.is_away(view.now) || !view.cache.is_whole() {
            return is_late.then(|| {
                failed(
                    TRY_AGAIN,
                    format!("{ip} is in no block of this host, and {}", self.why_away(view.now)),
                )
            });
        }
        let host = match steps::holder(view, network, ip) {
            Holder::Host(host) => host,
            Holder::Service(service) => {
                return Some(failed(
                    TRY_AGAIN,
                    format!("{ip} belongs to service {service} of network {network}"),
                ));
            }
            Holder::Nobody => {
                return Some(failed(TRY_AGAIN, format!("the record of the block of {ip} cannot be read")));
            }
            _ => {
                return is_late
                    .then(|| failed(TRY_AGAIN, format!("the block of {ip} could not be claimed in time")));
            }
        };
        let key = Key::Ask { network: network.to_owned(), address: Some(ip), host: self.local.id.clone() };
        let name =
            view.cache.host(&Key::Host(host.clone())).map_or(host.clone(), |record| record.name.clone());
        if let Some(refused) = view.cache.ask(&key).and_then(|ask| ask.refused.as_ref()) {
            return Some(failed(TRY_AGAIN, format!("{ip} cannot be had: {refused}")));
        }
        let is_silent = !view.cache.has(&Key::Alive(host.clone()));
        (is_silent || is_late).then(|| {
            let state = if is_silent { "is silent" } else { "does not answer" };
            failed(TRY_AGAIN, format!("{ip} is in a block of host {name} ({host}), which {state}"))
        })
    }

    fn why_closed(&self) -> String {
        format!(
            "this host was cut off from etcd for longer than half of reclaimAfterS ({} s), or has not reached it since \
             boot: its addresses may be another's; {}",
            self.settings.reclaim_after_s,
            self.away.as_deref().unwrap_or("etcd was not asked yet")
        )
    }

    fn judge_any(
        &self,
        network: &str,
        subnet: usize,
        pending: &Pending,
        is_late: bool,
        view: &View<'_>,
    ) -> Option<Answer> {
        if let Some(Barred(answer)) = self.barred(is_late, view) {
            return answer;
        }
        if self.local.closed {
            return Some(failed(TRY_AGAIN, self.why_closed()));
        }
        let known = view.local.nets.get(network);
        if known
            .is_some_and(|net| net.grown > pending.grown || self.has_new_block(net, network, subnet, view))
        {
            return Some(answer(Outcome::Done));
        }
        if self.is_away(view.now) || !view.cache.is_whole() {
            return is_late.then(|| {
                failed(
                    TRY_AGAIN,
                    format!(
                        "network {network}: all addresses of this host's blocks are used, and {}",
                        self.why_away(view.now)
                    ),
                )
            });
        }
        let Some(record) = view.cache.net(&Key::Net(network.to_owned())) else {
            return is_late.then(|| failed(TRY_AGAIN, format!("network {network} has no record")));
        };
        let Some(space) = Space::of(record).get(subnet).copied() else {
            return Some(failed(INVALID, format!("network {network} has no subnet {subnet}")));
        };
        let taken: Vec<IpAddr> = view.cache.blocks(network).map(|(first, ..)| first).collect();
        let limits = known.map(|net| net.limits.clone()).unwrap_or_default();
        let is_full = space.pick_useful(&taken, 0, &limits).is_none();
        let owners = steps::owners(view, network, subnet);
        let is_hopeless = is_full && owners.iter().all(|(host, _)| pending.refused.contains(host));
        (is_late || is_hopeless).then(|| {
            let mut free = steps::free_of(view, network, subnet);
            // What is not published, this host knows of itself.
            if let (Some((_, own)), Some(net)) =
                (free.iter_mut().find(|(host, _)| *host == view.local.id), known)
            {
                *own = net.free(&space);
            }
            let counts = self.counts(&free, view);
            failed(
                TRY_AGAIN,
                format!(
                    "network {network}: no address of {} is to be had; free, by host: {counts}",
                    space.subnet
                ),
            )
        })
    }

    /// Whether a block was claimed a moment ago, which whoever asks has not seen.
    fn has_new_block(
        &self,
        net: &crate::state::local::NetLocal,
        network: &str,
        subnet: usize,
        view: &View<'_>,
    ) -> bool {
        let space = net.copy.as_ref().and_then(|net| Space::of(net).get(subnet).copied());
        let Some(space) = space else { return false };
        net.blocks.blocks.iter().filter(|first| space.is_block(**first)).any(|first| {
            let since = net.free_since.get(first);
            since.is_some_and(|since| view.now.saturating_sub(*since) < AHEAD)
                && steps::is_wholly_free(view, network, net, &space, *first)
        })
    }
}
