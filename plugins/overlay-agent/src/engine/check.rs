//! Responses to `sync` and `check`: what etcd and the kernel have of this host's attachments.

use cluster::control::{Answer, Outcome};

use super::answer::{TRY_AGAIN, answer, failed, queued};
use super::{About, Engine};
use crate::state::want::View;
use crate::steps;

impl Engine {
    pub(super) fn judge_sync(
        &self,
        network: &str,
        wait: bool,
        is_late: bool,
        view: &View<'_>,
    ) -> Option<Answer> {
        if let Some((code, why)) = self.why_not_member(view) {
            return Some(failed(code, why));
        }
        let attachments = view.local.nets.get(network).map(|net| &net.attachments);
        let lost = attachments.into_iter().flatten().find_map(|(name, held)| {
            let (ip, host) = steps::given_up(view, network, held)?;
            Some(format!("{ip} of {name} belongs to {host} now: this host was away for too long"))
        });
        if steps::is_published(view, network) {
            return Some(match lost {
                Some(why) => queued(why),
                None => answer(Outcome::Done),
            });
        }
        if let (true, Some(hold)) = (wait, self.holds.get(&About::Writing)) {
            match hold.is_full {
                true => return Some(queued(hold.why.clone())),
                // Somebody has to change something before another host hears of it.
                false if is_late || view.now < hold.until(true) => {
                    return Some(failed(TRY_AGAIN, hold.why.clone()));
                }
                false => {}
            }
        }
        if self.is_silent(view.now) || !wait || is_late {
            return Some(queued(self.why_away(view.now)));
        }
        None
    }

    pub(super) fn judge_check(&self, network: &str, attachment: &str, view: &View<'_>) -> Answer {
        let mut found = Vec::new();
        if let Some((_, why)) = self.why_not_member(view) {
            found.push(why);
        }
        let Some(held) = view.local.nets.get(network).and_then(|net| net.attachments.get(attachment)) else {
            return failed(
                TRY_AGAIN,
                format!(
                    "{attachment} has no record in {}",
                    self.files.run.join("att").join(network).display()
                ),
            );
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
        Answer { differences: found, why, ..answer(outcome) }
    }
}
