//! What keeps a host from serving plugins.

use std::time::Duration;

use cluster::control::{Answer, PROTOCOL};

use super::Engine;
use super::answer::{INVALID, TRY_AGAIN, failed};
use crate::state::want::View;
use crate::steps::{self, Standing};

/// How much later than its time etcd ends a lease at most, but for a change of its leader.
const LEASE_ENDS: Duration = Duration::from_secs(2);

/// A host that does not serve: the response to whoever asks, or none if it is over soon.
#[derive(Debug)]
pub(super) struct Barred(pub(super) Option<Answer>);

impl Engine {
    /// Why this host cannot serve at all.
    pub(super) fn why_not_member(&self, view: &View<'_>) -> Option<(u32, String)> {
        let id = &self.local.id;
        if !view.cache.is_whole() {
            return None;
        }
        match steps::standing(view) {
            Standing::Doubled(boot) => Some((
                TRY_AGAIN,
                format!(
                    "another host, or an earlier boot of this one, is in the cluster as {id} (boot {boot}); if this lasts \
                     for longer than {} s, the identity was copied: remove {} on one of them",
                    self.settings.host_ttl_s,
                    self.files.state.join("host.json").display()
                ),
            )),
            Standing::OtherPort(port, encrypted) => Some((
                INVALID,
                format!(
                    "the cluster's VXLAN ports are {port} and {encrypted}, and this host's are {} and {}: \"port\" and \
                     \"encryptedPort\" must be alike on all hosts",
                    self.local.port, self.local.encrypted_port
                ),
            )),
            Standing::Newer(protocol) => Some((
                TRY_AGAIN,
                format!("the cluster speaks protocol {protocol}; this release speaks {PROTOCOL}"),
            )),
            Standing::Outside if self.local.host.addresses.is_empty() => Some((
                INVALID,
                format!(
                    "no address of this host can be the source of VXLAN packets: etcd is reached by {}; set \"hostAddress\"",
                    self.member.as_deref().unwrap_or("loopback")
                ),
            )),
            _ => None,
        }
    }

    /// Why nothing is done for a plugin, if that is so.
    pub(super) fn barred(&self, is_late: bool, view: &View<'_>) -> Option<Barred> {
        let (code, why) = self.why_not_member(view)?;
        // The record of an earlier boot of this host ends soon.
        let ttl = Duration::from_secs(u64::from(self.settings.host_ttl_s)) + LEASE_ENDS;
        let is_new = self.doubled_since.is_some_and(|since| view.now.saturating_sub(since) < ttl);
        Some(Barred((!is_new || is_late).then(|| failed(code, why))))
    }
}
