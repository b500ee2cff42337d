//! Bridge ports that exchange no frames with each other. The kernel has one bit for it, which the
//! bridge's own plugin may have set: the set of ports tells which ones this suite set.

use netlink::{Netlink, PortChange};
use nft::{Element, Nft, Value};
use sys::Result;

use super::layout::PORTS;
use crate::Owner;

/// Who isolated a bridge port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortUse {
    /// Nobody.
    Free,
    /// This attachment.
    Own,
    /// Another plugin, or the administrator.
    Others,
}

/// Who isolated a bridge port; `is_isolated` is its present state.
///
/// # Errors
/// The kernel could not be asked.
pub fn port_use(nft: &Nft, port: &str, is_isolated: bool, owner: &Owner) -> Result<PortUse> {
    let element = nft.element(&PORTS, &Element::new(Value::new().ifname(port)))?;
    Ok(match element.and_then(|element| element.comment) {
        Some(label) if label == owner.label() => PortUse::Own,
        _ if is_isolated => PortUse::Others,
        _ => PortUse::Free,
    })
}

/// Sets whether a port exchanges frames only with ports that are not isolated. A port that is gone,
/// or no port of a bridge any more, is left alone.
///
/// # Errors
/// The kernel refused.
pub(crate) fn isolate(host: &Netlink, port: &str, isolated: bool) -> Result<()> {
    let Some(link) = host.link_by_name(port)? else { return Ok(()) };
    if link.port.is_none_or(|port| port.isolated == isolated) {
        return Ok(());
    }
    let change = PortChange { isolated: Some(isolated), ..PortChange::default() };
    match host.set_bridge_port(link.index, &change) {
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
}

/// Deletes the element of a port that is no longer isolated.
///
/// # Errors
/// The kernel refused.
pub(crate) fn forget_port(nft: &Nft, port: &str, label: &str) -> Result<()> {
    nft.transact(|nft, batch| {
        let element = nft.element(&PORTS, &Element::new(Value::new().ifname(port)))?;
        if let Some(own) = element.filter(|element| element.comment.as_deref() == Some(label)) {
            batch.del_elements(&PORTS, &[own]);
        }
        Ok(())
    })
}

/// Gives the ports of these owners back.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(super) fn give_back(nft: &Nft, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    let mut host = None;
    for element in nft.elements(&PORTS)? {
        if super::super::is_owned(&element, is_ours)? {
            let host = match &host {
                Some(host) => host,
                None => host.insert(Netlink::open()?),
            };
            isolate(host, &element.show(&PORTS), false)?;
        }
    }
    Ok(())
}
