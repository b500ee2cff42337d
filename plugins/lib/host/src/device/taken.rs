//! Moving a device to a container.

use std::os::fd::BorrowedFd;

use netlink::{Link, LinkMove, Netlink};
use nix::errno::Errno;
use sys::{Error, Result};

use super::{Device, Devices, Record, found};
use crate::{Namespace, Owner};

/// Moves a device to the container's namespace, under the owner's interface name, after putting it
/// on record. `restore`: its addresses and routes come back with it.
///
/// # Errors
/// The kernel refused. The device may have moved: give it back.
pub fn take(
    host: &Netlink,
    sandbox: (&Netlink, BorrowedFd<'_>),
    owner: &Owner,
    netns: &str,
    (name, restore): (&str, bool),
) -> Result<()> {
    let (sandbox, netns_fd) = sandbox;
    let devices = Devices::open()?;
    if let Some(record) = devices.read(owner)
        && found::in_sandbox(sandbox, &record)?.is_some()
    {
        let already = format!("the container has the host's device {:?} already", record.device.name);
        return Err(Error::new("take", name, Errno::EEXIST).within(already));
    }
    let link = find(host, name)?;
    let mut record = Record {
        owner: owner.clone(),
        netns: Namespace::at(netns),
        taken_index: owner.link_index(),
        released: false,
        device: Device::of(host, &link, restore)?,
    };
    devices.write(&record)?;
    let mut to =
        LinkMove { netns: netns_fd, name: &owner.ifname, new_index: record.taken_index, alias: &link.name };
    let mut moved = host.move_link(link.index, &to);
    if moved.as_ref().is_err_and(|error| error.errno() == Some(libc::EBUSY)) {
        // Another link of the container has the index.
        record.taken_index = link.index;
        devices.write(&record)?;
        to.new_index = 0;
        moved = host.move_link(link.index, &to);
    }
    moved.map_err(|error| refused(error, &link))?;
    if let Some(link) = sandbox.link_by_name(&owner.ifname)?.filter(|l| l.index != record.taken_index) {
        // A kernel that chooses the index itself, or another link that has it.
        record.taken_index = link.index;
        devices.write(&record)?;
    }
    Ok(())
}

/// The attachment that has the host's device of that name, if it is on record.
///
/// # Errors
/// The records cannot be listed.
pub fn holder(name: &str) -> Result<Option<Owner>> {
    let Some(devices) = Devices::open_if_any()? else { return Ok(None) };
    Ok(devices.all()?.into_iter().find(|record| record.device.name == name).map(|record| record.owner))
}

fn find(host: &Netlink, name: &str) -> Result<Link> {
    let gone = || Error::new("find link", name, Errno::ENODEV).within("failed to find host device".into());
    host.link_by_name(name)?.ok_or_else(gone)
}

/// Explains the errno of a refused move.
fn refused(error: Error, link: &Link) -> Error {
    let why = match error.errno() {
        Some(libc::EINVAL) => {
            let kind = link.kind.as_deref().unwrap_or("this kind");
            format!(": links of {kind} cannot leave their network namespace")
        }
        Some(libc::EEXIST) => ": the container has an interface of that name".into(),
        _ => String::new(),
    };
    error.within(format!("failed to move link {:?} to the container{why}", link.name))
}
