//! The agent's state, for STATUS and people.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::control::Status;
use cluster::key::Key;
use cluster::net::mtu_of_underlay;
use sys::IpFamily;

use super::Engine;
use crate::state::want::View;
use crate::steps;

/// The most lines of a list, and the longest line: a response is one packet.
const LINES: usize = 8;
const LINE: usize = 200;

impl Engine {
    pub(super) fn status(&self, view: &View<'_>) -> Status {
        let nets = || view.local.nets.iter();
        let hosts = view.cache.hosts().count();
        let silent =
            view.cache.hosts().filter(|(host, _)| !view.cache.has(&Key::Alive((*host).to_owned()))).count();
        let local: usize = nets().map(|(_, net)| net.attachments.len()).sum();
        let is_remote = |key: &Key| matches!(key, Key::Endpoint(endpoint) if endpoint.host != view.local.id);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let queued = if view.cache.is_whole() {
            nets().map(|(network, _)| steps::waiting(view, network)).sum()
        } else {
            local
        };
        let away = self.is_away(view.now).then(|| self.why_away(view.now));
        let held = self.holds.values().map(|hold| view.now.saturating_sub(hold.since));
        let since = self.contact.map_or(view.now, |contact| view.now.saturating_sub(contact));
        let since = held.fold(since, Duration::max);
        Status {
            host: view.local.id.clone(),
            name: view.local.host.name.clone(),
            cluster: view.cache.meta(&Key::Meta).map(|meta| meta.cluster.clone()).unwrap_or_default(),
            addresses: view.local.host.addresses.clone(),
            mtu: view.local.host.mtu,
            port: view.local.port,
            member: self.member.clone().filter(|_| away.is_none()),
            away: away.map(|why| shortened(&why)),
            away_s: since.as_secs(),
            faults: bounded(self.faults(view)),
            warnings: bounded(self.warnings(view)),
            hosts: count(hosts),
            silent: count(silent),
            networks: count(nets().filter(|(_, net)| !net.attachments.is_empty()).count()),
            local: count(local),
            remote: count(view.cache.items().filter(|(key, _)| is_remote(key)).count()),
            queued: count(queued),
            repaired: self.repaired,
            left_out: count(view.cache.left_out().count() + self.left_out.len()),
            waited_for_block: self.waited_for_block,
        }
    }

    fn faults(&self, view: &View<'_>) -> Vec<String> {
        let mut faults: Vec<String> = self.why_not_member(view).map(|(_, why)| why).into_iter().collect();
        if self.local.closed {
            faults.push(format!(
                "no address is given: etcd was not reached for half of reclaimAfterS ({} s)",
                self.settings.reclaim_after_s
            ));
        }
        if self.is_away(view.now) {
            for (network, net) in view.local.nets.iter().filter(|(_, net)| net.blocks.blocks.is_empty()) {
                if net.copy.is_some() {
                    faults
                        .push(format!("network {network} has no block of addresses here, and etcd is away"));
                }
            }
        }
        let refusals: BTreeSet<_> = self.refusals().map(|hold| hold.why.clone()).collect();
        faults.extend(refusals);
        faults.extend(self.troubles.values().cloned());
        faults
    }

    fn warnings(&self, view: &View<'_>) -> Vec<String> {
        let mut warnings = self.space.clone();
        for (network, net) in &view.local.nets {
            for (name, held) in &net.attachments {
                if let Some((ip, host)) = steps::given_up(view, network, held) {
                    warnings.push(format!("network {network}: {ip} of {name} belongs to {host} now"));
                }
            }
        }
        // All hosts send packets of the family of this one's.
        let family = view.local.host.addresses.first().map_or(IpFamily::V4, |ip| IpFamily::of(*ip));
        for (id, host) in view.cache.hosts() {
            let small = view.local.nets.iter().filter_map(|(network, net)| {
                let net = net.copy.as_ref()?;
                let mtu = net.mtu?;
                (mtu > mtu_of_underlay(host.mtu, family, net.encrypted)).then_some((network, mtu))
            });
            if let Some((network, mtu)) = small.into_iter().next() {
                warnings.push(format!(
                    "host {} ({id}): its link's MTU of {} is too small for network {network}, which has {mtu}",
                    host.name, host.mtu
                ));
            }
        }
        warnings.extend(self.refused.iter().map(|(network, why)| format!("network {network}: {why}")));
        warnings.extend(self.left_out.iter().cloned());
        warnings.extend(view.cache.left_out().map(ToString::to_string));
        warnings.extend(self.too_large.iter().cloned());
        warnings
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LINE).collect()
}

fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    lines.iter_mut().for_each(|line| *line = shortened(line));
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}
