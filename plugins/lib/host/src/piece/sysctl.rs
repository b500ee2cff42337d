//! Kernel parameters.

use nix::libc;
use sys::{Result, sysctl};

use super::{Kernel, Part, Place, Undo, advertised};
use crate::Drift;

/// Parameters of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctls {
    /// The namespace.
    pub place: Place,
    /// The name of the step in an error.
    pub purpose: &'static str,
    /// The parameters, in the order in which they are set.
    pub settings: Vec<Sysctl>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Components separated by `/`: `net/ipv4/conf/eth0/arp_notify`.
    pub key: String,
    /// Its value.
    pub value: &'static str,
    /// Whether the attachment fails without it.
    pub required: bool,
}

/// Sets a parameter that is an improvement, and that this kernel may lack.
pub(super) fn best_effort(key: &str, value: &str) {
    let _ = sysctl::write(key, value);
}

/// Parameters by which a neighbour on a link changes the host's routes: a router advertisement
/// gives it a default route and an address, a redirect a route through the neighbour.
const ROUTES_BY_NEIGHBOURS: [&str; 3] =
    ["ipv6/conf/{}/accept_ra", "ipv6/conf/{}/accept_redirects", "ipv4/conf/{}/accept_redirects"];

/// Keeps containers from changing the host's routes on a link that was created for them. Call it
/// before the link is up: a running container may send at once.
///
/// # Errors
/// A parameter cannot be set, and the link must not be up without it. (A host without IPv6 lacks
/// them, and a read-only `/proc/sys` is its owner's responsibility.)
pub(super) fn refuse_routers(link: &str) -> Result<()> {
    for key in ROUTES_BY_NEIGHBOURS {
        match sysctl::set(&format!("net/{}", key.replace("{}", link)), "0") {
            Err(error) if error.is_not_found() || error.errno() == Some(libc::EROFS) => {}
            done => {
                done.map_err(|error| error.within(format!("keep routers among containers off {link}")))?
            }
        }
    }
    Ok(())
}

impl Part for Sysctls {
    // Never undone: a link's parameters go with it, and forwarding is the host's, which others may
    // rely on by now.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        kernel.within(self.place, || {
            self.settings.iter().try_for_each(|setting| match setting.required {
                true => {
                    if setting.key == advertised::FORWARDING {
                        if sysctl::read(&setting.key).is_ok_and(|now| now == setting.value) {
                            return Ok(());
                        }
                        advertised::keep(&kernel.host).map_err(|e| e.within(self.purpose.into()))?;
                    }
                    sysctl::write(&setting.key, setting.value)
                        .map_err(|e| e.within(self.purpose.into()))
                        .map(drop)
                }
                false => {
                    best_effort(&setting.key, setting.value);
                    Ok(())
                }
            })
        })?
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let required = self.settings.iter().filter(|setting| setting.required);
        kernel.within(self.place, || {
            let drifts = required.filter_map(|setting| {
                let actual =
                    sysctl::read(&setting.key).unwrap_or_else(|error| format!("unreadable ({error:#})"));
                Drift::unless_equal(format!("sysctl {}", setting.key), setting.value.to_owned(), actual)
            });
            drifts.collect()
        })
    }
}
