//! Responses to `sync` and `check`: what etcd and the kernel have of this host's attachments.

use std::net::IpAddr;
use std::time::Duration;

use cluster::control::{Answer, Outcome};
use cluster::key::Key;
use cluster::settings::WhenUnreachable;

use super::answer::{TRY_AGAIN, answer, failed, queued};
use super::barred::Barred;
use super::{About, Engine};
use crate::state::want::View;
use crate::steps::{self, Holder};

impl Engine {
    pub(super) fn judge_sync(
        &self,
        network: &str,
        waits_since: Option<Duration>,
        is_late: bool,
        view: &View<'_>,
    ) -> Option<Answer> {
        if let Some(Barred(answer)) = self.barred(is_late, view) {
            return answer;
        }
        // Where nothing was to be written, nothing was heard of etcd either.
        let is_heard = || self.contact >= waits_since || !self.must_reach();
        let attachments = view.local.nets.get(network).map(|net| &net.attachments);
        let lost = attachments.into_iter().flatten().find_map(|(name, held)| {
            let (ip, host) = steps::given_up(view, network, held)?;
            Some(format!("{ip} of {name} belongs to {host} now: this host was away for too long"))
        });
        if steps::is_published(view, network) && is_heard() {
            return Some(match lost {
                Some(why) => queued(why),
                None => answer(Outcome::Done),
            });
        }
        if let (Some(_), Some(hold)) = (waits_since, self.holds.get(&About::Writing)) {
            match hold.is_full {
                true => return Some(queued(hold.why.clone())),
                // Somebody has to change something before another host hears of it.
                false if is_late || view.now < hold.until(true) => {
                    return Some(failed(TRY_AGAIN, hold.why.clone()));
                }
                false => {}
            }
        }
        if self.is_silent(view.now) || waits_since.is_none() || is_late {
            return Some(queued(self.why_away(view.now)));
        }
        None
    }

    /// Whether an ADD fails that etcd does not hear of.
    pub(super) fn must_reach(&self) -> bool {
        self.settings.when_unreachable == WhenUnreachable::Fail
    }

    /// Who gives an address, as far as is known here; for CHECK of an IPAM plugin.
    pub(super) fn judge_holder(&self, network: &str, ip: IpAddr, view: &View<'_>) -> Answer {
        let name = |id: &str| {
            let host = view.cache.host(&Key::Host(id.to_owned()));
            host.map_or_else(|| id.to_owned(), |host| format!("{} ({id})", host.name))
        };
        let why = match steps::holder(view, network, ip) {
            _ if !view.cache.is_whole() => return queued(self.why_away(view.now)),
            Holder::Ours => format!("host {}", name(&view.local.id)),
            Holder::Host(host) => format!("host {}", name(&host)),
            Holder::Service(service) => format!("service {service}"),
            Holder::Free(_) => "nobody: its block is free".to_owned(),
            Holder::Nobody => "nobody that is known".to_owned(),
        };
        Answer { why: Some(why), ..answer(Outcome::Done) }
    }

    pub(super) fn judge_check(
        &self,
        network: &str,
        attachment: &str,
        is_late: bool,
        view: &View<'_>,
    ) -> Option<Answer> {
        // An agent that has only just started reads the records, and compares everything.
        if !view.cache.is_whole() && !self.is_away(view.now) && !is_late {
            return None;
        }
        let mut found = Vec::new();
        if let Some((_, why)) = self.why_not_member(view) {
            found.push(why);
        }
        let Some(held) = view.local.nets.get(network).and_then(|net| net.attachments.get(attachment)) else {
            let dir = self.files.run.join("att").join(network);
            return Some(failed(TRY_AGAIN, format!("{attachment} has no record in {}", dir.display())));
        };
        let is_away = self.is_away(view.now) || !view.cache.is_whole();
        if let Some((ip, host)) = steps::given_up(view, network, held) {
            found.push(format!("{ip} belongs to {host} now"));
        } else if !is_away {
            found.extend(steps::difference_of(view, network, attachment));
        }
        found.extend(self.refused.get(network).cloned());
        found.extend(self.found_in_kernel.iter().cloned());
        found.truncate(10);
        let outcome = if is_away { Outcome::Queued } else { Outcome::Done };
        let why = is_away.then(|| self.why_away(view.now));
        Some(Answer { differences: found, why, ..answer(outcome) })
    }
}
