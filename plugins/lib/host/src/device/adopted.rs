//! Devices without a record: the reference moved them, or the record is lost.

use netlink::{Link, Mac, Netlink};
use sys::Result;

use super::{Device, Devices, Record, found};
use crate::{Owner, notice};

/// What the caller of DEL knows about the attachment's device besides its owner.
#[derive(Clone, Debug, Default)]
pub struct Hint {
    /// The device's name on the host, if the configuration has it.
    pub device: Option<String>,
    /// The Ethernet address that the runtime's cached result has.
    pub mac: Option<Mac>,
}

impl Hint {
    /// Whether the DEL of `owner` takes the device on record: its own, or that of the same
    /// container and interface under another network's name, if the network was renamed. It was
    /// renamed if the runtime remembers this device, or the container is gone.
    pub(super) fn takes(&self, record: &Record, owner: &Owner, sandbox: Option<&Netlink>) -> Result<bool> {
        let Some(sandbox) = sandbox.filter(|_| record.owner != *owner) else { return Ok(true) };
        let link = found::in_sandbox(sandbox, record)?;
        Ok(link.is_none_or(|link| self.mac.is_some() && link.mac == self.mac))
    }
}

/// Opens the records, after writing one for a device of `owner` that has none. `None` if there is
/// nothing to give back.
pub(super) fn records(
    sandbox: Option<&Netlink>,
    host: &Netlink,
    owner: &Owner,
    hint: &Hint,
) -> Result<Option<Devices>> {
    if let Some(devices) = Devices::open_if_any()? {
        if devices.read(owner).is_some() {
            return Ok(Some(devices));
        }
        // One that cannot be read describes nothing, but may be another network's.
        if devices.owner(owner).is_some_and(|on_record| on_record != *owner) {
            return Ok(None);
        }
        devices.remove(owner)?;
    }
    let link = match sandbox {
        Some(sandbox) => in_sandbox(sandbox, owner, hint)?,
        None => match &hint.device {
            Some(name) => on_host(host, name, &owner.ifname)?,
            None => None,
        },
    };
    match link {
        Some(link) => adopt(owner, &link).map(Some),
        None => Ok(None),
    }
}

/// The link that the reference's ADD moved to the container: its alias is its name on the host. Of
/// a link that the container may have made itself, the configuration must name the device. The
/// index of one of ours shows its owner.
fn in_sandbox(sandbox: &Netlink, owner: &Owner, hint: &Hint) -> Result<Option<Link>> {
    let is_hardware = |link: &Link| link.kind.is_none() && !link.loopback();
    if let Some(link) = sandbox.link_by_index(owner.link_index())?.filter(is_hardware) {
        return Ok(Some(link));
    }
    let by_reference = |link: &Link| {
        let alias = link.alias.as_deref().filter(|alias| is_name(alias));
        alias.is_some_and(|alias| is_hardware(link) || hint.device.as_deref() == Some(alias))
    };
    Ok(sandbox.link_by_name(&owner.ifname)?.filter(by_reference))
}

/// The link that the kernel returned after the reference's ADD: under the container's name or its
/// own choice, with the name on the host as its alias, which no link has.
fn on_host(host: &Netlink, name: &str, ifname: &str) -> Result<Option<Link>> {
    if !is_name(name) || host.link_by_name(name)?.is_some() {
        return Ok(None);
    }
    let returned = |link: &Link| {
        link.alias.as_deref() == Some(name) && (link.name == ifname || link.name.starts_with("dev"))
    };
    Ok(host.links()?.into_iter().find(returned))
}

/// ADD: finds the device of that name that the kernel returned under another, and completes its
/// return.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn adopt_on_host(host: &Netlink, owner: &Owner, name: &str) -> Result<()> {
    match on_host(host, name, &owner.ifname)? {
        Some(link) => {
            drop(adopt(owner, &link)?);
            super::repair(host)
        }
        None => Ok(()),
    }
}

fn adopt(owner: &Owner, link: &Link) -> Result<Devices> {
    let name = link.alias.clone().filter(|alias| is_name(alias));
    if name.is_none() {
        notice(format_args!("the name that {:?} had on the host is not on record", link.name));
    }
    let mut record = Record {
        owner: owner.clone(),
        netns: None,
        taken_index: link.index,
        released: false,
        device: Device { index: 0, ..Device::bare(link) },
    };
    record.device.name = name.unwrap_or_else(|| record.waiting_name());
    let devices = Devices::open()?;
    devices.write(&record)?;
    Ok(devices)
}

/// Whether the kernel takes the text as the name of a link (dev_valid_name, net/core/dev.c).
fn is_name(text: &str) -> bool {
    let fits = !text.is_empty() && text.len() <= 15 && text != "." && text != "..";
    fits && !text.contains(|c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control())
}
