//! Where a device on record is now.

use netlink::{Link, Netlink};
use sys::Result;

use super::Record;
use crate::Owner;

/// The device in the container's namespace, also if the container has renamed it and changed its
/// alias.
pub(super) fn in_sandbox(sandbox: &Netlink, record: &Record) -> Result<Option<Link>> {
    // A container cannot make hardware, so it cannot put another link in its place.
    let same_kind = |link: &Link| link.kind == record.device.kind;
    for index in [record.taken_index, record.owner.link_index()] {
        if let Some(link) = sandbox.link_by_index(index)?.filter(same_kind)
            && (Owner::has_link_index(index) || is_marked(record, &link) || has_its_mac(record, &link))
        {
            return Ok(Some(link));
        }
    }
    // With its name on the host, it comes from an ADD that was killed when the name was taken.
    for name in [&record.owner.ifname, &record.device.name] {
        if let Some(link) = sandbox.link_by_name(name)?.filter(same_kind)
            && (is_marked(record, &link) || has_its_mac(record, &link))
        {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// The device on the host, if it has not come back completely: its name or state is not its own
/// yet.
pub(super) fn on_host(host: &Netlink, record: &Record) -> Result<Option<Link>> {
    let Record { owner, device, .. } = record;
    let same_kind = |link: &Link| link.kind == device.kind;
    // The index shows the owner, and the rest which of its devices it is.
    if Owner::has_link_index(record.taken_index)
        && let Some(link) = host.link_by_index(record.taken_index)?.filter(same_kind)
        && (is_marked(record, &link) || has_its_mac(record, &link))
    {
        return Ok(Some(link));
    }
    if let Some(link) = host.link_by_name(&record.waiting_name())?.filter(same_kind) {
        return Ok(Some(link));
    }
    let candidates = [host.link_by_name(&device.name)?, host.link_by_index(device.index)?];
    let marked = |link: &Link| same_kind(link) && is_marked(record, link);
    if let Some(link) = candidates.into_iter().flatten().find(marked) {
        return Ok(Some(link));
    }
    if Owner::has_link_index(record.taken_index) {
        return Ok(None);
    }
    // An index of the kernel's choice shows nothing. It returns a device under the container's
    // name, or as `dev<n>`.
    let returned = |link: &Link| marked(link) && (link.name == owner.ifname || link.name.starts_with("dev"));
    Ok(host.links()?.into_iter().find(returned))
}

/// Whether the device is on the host as if it had never been away: its ADD was killed before it
/// moved, or its DEL after everything else.
pub(super) fn is_home(host: &Netlink, record: &Record) -> Result<bool> {
    let device = &record.device;
    let link = host.link_by_name(&device.name)?;
    Ok(link.is_some_and(|link| {
        link.kind == device.kind && !is_marked(record, &link) && has_its_mac(record, &link)
    }))
}

/// Whether the link has the alias of a moved device. An administrator may have given it that alias
/// too.
fn is_marked(record: &Record, link: &Link) -> bool {
    let device = &record.device;
    let has_alias = link.alias.as_deref() == Some(device.name.as_str());
    has_alias && (device.alias != device.name || link.name != device.name)
}

fn has_its_mac(record: &Record, link: &Link) -> bool {
    let device = &record.device;
    match device.permanent_mac.filter(|mac| !mac.is_zero()) {
        Some(mac) => link.permanent_mac == Some(mac),
        None => device.mac.is_some() && link.mac == device.mac,
    }
}
