//! `route_localnet`: what the host needs to reach a container by 127.0.0.1, on the container's link only, and only
//! together with the rule that keeps neighbours out.

use super::layout::LOCALNET;
use crate::nft::{Batch, Element, Nft, Value};
use crate::{Result, sysctl};

/// The comment of a link whose parameter was off: it is turned off again when nothing needs it any more.
const WAS_OFF: &str = "route_localnet was 0";
const WAS_ON: &str = "route_localnet was 1";

pub(super) fn key(link: &str) -> String {
    format!("net/ipv4/conf/{link}/route_localnet")
}

/// Has `batch` guard a link. The parameter is set after that.
pub(super) fn guard(nft: &Nft, batch: &mut Batch, link: &str) -> Result<()> {
    let element = Element::new(Value::new().ifname(link));
    if nft.element(&LOCALNET, &element)?.is_none() {
        let was_on = sysctl::read(&key(link)).is_ok_and(|value| value == "1");
        batch.add_elements(&LOCALNET, &[element.comment(if was_on { WAS_ON } else { WAS_OFF })]);
    }
    Ok(())
}

/// Links whose parameter has been turned off before the guard is gone, and is to be turned on again if the guard stays.
#[derive(Default)]
pub(super) struct Lowered(Vec<String>);

impl Lowered {
    /// Turns the parameter off on every guarded link where it was off.
    pub(super) fn lower(&mut self, nft: &Nft) -> Result<()> {
        for element in nft.elements(&LOCALNET)? {
            let link = element.key.show(LOCALNET.key);
            // The link may be gone, and its parameter with it.
            if element.comment.as_deref() == Some(WAS_OFF)
                && sysctl::write(&key(&link), "0").is_ok_and(|changed| changed)
            {
                self.0.push(link);
            }
        }
        Ok(())
    }

    /// The guard stays, since others have come meanwhile.
    pub(super) fn raise(&mut self) {
        for link in self.0.drain(..) {
            let _ = sysctl::write(&key(&link), "1");
        }
    }
}
