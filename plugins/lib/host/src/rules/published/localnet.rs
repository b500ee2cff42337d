//! `route_localnet`: lets the host reach a container from 127.0.0.1. It is set on the container's
//! link only, and only together with the rule that keeps neighbours out.

use nft::{Batch, Element, Nft, Value};
use sys::{Result, sysctl};

use super::layout::LOCALNET;

/// The comment of a link that had the parameter off: it is turned off again when nothing needs it
/// any more.
const WAS_OFF: &str = "route_localnet was 0";
const WAS_ON: &str = "route_localnet was 1";

pub(super) fn key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/route_localnet")
}

/// The element that protects a link; `was_off` if the link had the parameter off.
pub(super) fn element(link: &str, was_off: bool) -> Element {
    Element::new(Value::new().ifname(link)).comment(if was_off { WAS_OFF } else { WAS_ON })
}

/// A link and its parameter before it was protected.
pub(super) struct Protected {
    /// The parameter was off.
    pub was_off: bool,
    /// The parameter was on without the protection: neighbours may have connections.
    pub was_open: bool,
}

/// Adds to `batch` the protection of a link; the caller turns the parameter on afterwards.
/// `is_new` if the batch creates the chains that protect it.
pub(super) fn protect(nft: &Nft, batch: &mut Batch, link: &str, is_new: bool) -> Result<Protected> {
    if let Some(found) = nft.element(&LOCALNET, &element(link, true))? {
        return Ok(Protected { was_off: found.comment.as_deref() == Some(WAS_OFF), was_open: is_new });
    }
    let was_off = sysctl::read(&key(link)).is_ok_and(|value| value != "1");
    batch.add_elements(&LOCALNET, &[element(link, was_off)]);
    Ok(Protected { was_off, was_open: !was_off })
}

/// Turns the parameter off again on links that lost their protection to a flush, if it was off.
pub(super) fn lower_unguarded(nft: &Nft, were_off: &[String]) -> Result<()> {
    for link in were_off {
        if nft.element(&LOCALNET, &element(link, true))?.is_none() {
            match sysctl::write(&key(link), "0") {
                // The link may be gone, and its parameter with it.
                Err(error) if !error.is_not_found() => {
                    return Err(error.within("unable to disable route_localnet".into()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Links with the parameter turned off before their protection is deleted; it is turned on again if
/// the protection stays.
#[derive(Default)]
pub(super) struct Lowered(Vec<String>);

impl Lowered {
    /// Turns the parameter off on every protected link that had it off.
    pub(super) fn lower(&mut self, nft: &Nft) -> Result<()> {
        for element in nft.elements(&LOCALNET)? {
            let link = element.key.show(LOCALNET.key);
            if element.comment.as_deref() != Some(WAS_OFF) {
                continue;
            }
            match sysctl::write(&key(&link), "0") {
                Ok(true) => self.0.push(link),
                Ok(false) => {}
                // The link may be gone, and its parameter with it.
                Err(error) if error.is_not_found() => {}
                // Without the protection, a parameter that stays on would let neighbours in.
                Err(error) => return Err(error.within("unable to disable route_localnet".into())),
            }
        }
        Ok(())
    }

    /// Turns the parameter on again: the protection stays, since others have published meanwhile.
    pub(super) fn raise(&mut self) {
        for link in self.0.drain(..) {
            let _ = sysctl::write(&key(&link), "1");
        }
    }
}
