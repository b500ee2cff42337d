//! Giving a device back to the host, in steps that any later process can finish.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use netlink::{Link, LinkChange, LinkMove, Mac, Netlink};
use sys::{Error, NetNs, Result, sysctl};

use super::{Devices, Hint, Record, adopted, found};
use crate::{Owner, notice};

/// How long DEL waits for the kernel to return a device from a dead namespace. It does so from a
/// work queue, in some milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// The outcome of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// There is nothing to give back, or no longer.
    Done,
    /// The container's namespace is gone, and the kernel has not returned the device.
    Pending,
}

/// Gives the device of an attachment back to the host, with everything it had there, from the
/// container's namespace or the host's own, and removes its record. Without a device it succeeds.
/// While another link has its name, the device waits on the host under a name of ours.
///
/// # Errors
/// A step failed; the next call goes on from there.
pub fn give_back(host: &Netlink, sandbox: Option<&Netlink>, owner: &Owner, hint: &Hint) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(devices) = adopted::records(sandbox, host, owner, hint)? else { return Ok(()) };
        let Some(record) = devices.read(owner) else { return Ok(()) };
        if !hint.takes(&record, owner, sandbox)? {
            return Ok(());
        }
        if attempt(&devices, host, sandbox, &record)? == Outcome::Done || record.released {
            return Ok(());
        }
        if Instant::now() > deadline {
            notice(format_args!(
                "the kernel has not returned {} yet: the next ADD, GC or STATUS completes it",
                record.device.name
            ));
            return devices.write(&Record { released: true, ..record });
        }
        drop(devices);
        sleep(PAUSE);
    }
}

/// GC: gives back the devices of a network's attachments except these.
///
/// # Errors
/// A step failed; the others are done.
pub fn give_back_all_but(host: &Netlink, network: &str, valid: &[Owner]) -> Result<()> {
    let Some(devices) = Devices::open_if_any()? else { return Ok(()) };
    let mut outcome = Ok(());
    for record in devices.all()? {
        if record.owner.network != network || valid.contains(&record.owner) {
            continue;
        }
        let given = sandbox_of(&record)
            .and_then(|sandbox| attempt(&devices, host, sandbox.as_ref(), &record))
            .and_then(|outcome| match outcome {
                Outcome::Pending if !record.released => devices.write(&Record { released: true, ..record }),
                _ => Ok(()),
            });
        outcome = outcome.and(given);
    }
    outcome
}

fn sandbox_of(record: &Record) -> Result<Option<Netlink>> {
    let Some(netns) = record.netns.as_ref().filter(|netns| !netns.is_gone()) else { return Ok(None) };
    match NetNs::open(&netns.path) {
        Ok(netns) => Netlink::open_in(&netns).map(Some),
        Err(_) => Ok(None),
    }
}

/// Completes the return of every device that the kernel has returned from a dead namespace, or a
/// killed process has left on the way.
///
/// # Errors
/// A step failed; the others are done.
pub fn repair(host: &Netlink) -> Result<()> {
    let Some(devices) = Devices::open_if_any()? else { return Ok(()) };
    let mut outcome = Ok(());
    for record in devices.all()? {
        let repaired = match found::on_host(host, &record) {
            Ok(Some(link)) => restore(&devices, host, &record, &link),
            Ok(None) if record.released => settle(&devices, host, &record),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        outcome = outcome.and(repaired);
    }
    outcome
}

/// Removes the record of a device that is back without our help.
fn settle(devices: &Devices, host: &Netlink, record: &Record) -> Result<()> {
    match found::is_home(host, record)? {
        true => devices.remove(&record.owner),
        false => Ok(()),
    }
}

fn attempt(devices: &Devices, host: &Netlink, sandbox: Option<&Netlink>, record: &Record) -> Result<Outcome> {
    if let Some(sandbox) = sandbox
        && let Some(link) = found::in_sandbox(sandbox, record)?
    {
        move_home(host, sandbox, record, &link)?;
    }
    if let Some(link) = found::on_host(host, record)? {
        return restore(devices, host, record, &link).map(|()| Outcome::Done);
    }
    if record.device.is_hardware() && !found::is_home(host, record)? {
        return Ok(Outcome::Pending);
    }
    // The kernel destroys other links together with their namespace.
    devices.remove(&record.owner).map(|()| Outcome::Done)
}

/// Moves the device out of the container, under its own name if that is free.
fn move_home(host: &Netlink, sandbox: &Netlink, record: &Record, link: &Link) -> Result<()> {
    let device = &record.device;
    let fail = |error: Error| error.within(format!("failed to move {:?} to host netns", link.name));
    let home = NetNs::current()?;
    let waiting = record.waiting_name();
    let free = host.link_by_name(&device.name)?.is_none();
    let mut name = if free { &device.name } else { &waiting };
    let mut new_index = if device.index == 0 { free_index(host)? } else { device.index };
    loop {
        let to = LinkMove { netns: home.as_fd(), name, new_index, alias: &device.name };
        let moved = sandbox.move_link(link.index, &to);
        match moved {
            // Somebody has taken the name since. The link may have moved without it.
            Err(error) if error.is_exists() && *name != waiting => {
                name = &waiting;
                if sandbox.link_by_index(link.index)?.is_none() {
                    let Some(moved) = host.link_by_index(new_index)? else { return Err(fail(error)) };
                    let change = LinkChange { name: Some(name), ..LinkChange::default() };
                    return host.set_link(moved.index, &change).map_err(fail);
                }
            }
            Err(error) if error.errno() == Some(libc::EBUSY) && new_index == device.index => {
                new_index = free_index(host)?;
            }
            moved => return moved.map_err(fail),
        }
    }
}

/// An index that no link of the host has. The one in the container is a mark of its owner, which
/// the host's link must not keep.
fn free_index(host: &Netlink) -> Result<u32> {
    let links = host.links()?;
    let used = links.iter().map(|link| link.index).filter(|index| !Owner::has_link_index(*index));
    Ok(used.max().unwrap_or(1) + 1)
}

/// Gives a link of the host the state of the device on record, and removes the record.
fn restore(devices: &Devices, host: &Netlink, record: &Record, link: &Link) -> Result<()> {
    let device = &record.device;
    let fail = |error: Error| error.within(format!("failed to restore {:?} on the host", device.name));
    if link.name != device.name {
        if host.link_by_name(&device.name)?.is_some() {
            notice(format_args!(
                "another link has the name {:?}: the device that had it is {:?} until the name is free",
                device.name, link.name
            ));
            return Ok(());
        }
        // Kernels before Linux 6.2 do not rename a link that is up.
        let up = link.up().then_some(false);
        let change = LinkChange { up, ..LinkChange::default() };
        if up.is_some() {
            host.set_link(link.index, &change).map_err(fail)?;
        }
        let change = LinkChange { name: Some(&device.name), ..LinkChange::default() };
        host.set_link(link.index, &change).map_err(fail)?;
    }
    let mac = device.mac.filter(|mac| link.mac != Some(*mac) && !Mac::is_multicast(mac) && !mac.is_zero());
    let mtu = Some(device.mtu).filter(|mtu| *mtu != 0 && *mtu != link.mtu);
    if mac.is_some() || mtu.is_some() {
        let change = LinkChange { mac, mtu, ..LinkChange::default() };
        unless_impossible(host.set_link(link.index, &change)).map_err(fail)?;
    }
    let now = host.parameters(link.index).map_err(fail)?;
    for parameter in device.parameters.iter().filter(|parameter| !now.contains(parameter)) {
        let set = sysctl::set(&parameter.key(&device.name), &parameter.value.to_string());
        unless_impossible(set).map_err(fail)?;
    }
    for address in device.restored.iter().filter(|saved| saved.is_address()) {
        unless_impossible(host.restore(link.index, address)).map_err(fail)?;
    }
    let change = LinkChange { up: Some(device.up), ..LinkChange::default() };
    host.set_link(link.index, &change).map_err(fail)?;
    for route in device.restored.iter().filter(|saved| !saved.is_address()) {
        unless_impossible(host.restore(link.index, route)).map_err(fail)?;
    }
    let change = LinkChange { alias: Some(&device.alias), ..LinkChange::default() };
    host.set_link(link.index, &change).map_err(fail)?;
    devices.remove(&record.owner)
}

/// What the host can no longer have is reported, and is no reason to keep the device from it. What
/// it has already is there.
fn unless_impossible(done: Result<()>) -> Result<()> {
    const IMPOSSIBLE: [i32; 12] = [
        libc::EINVAL,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::ENETDOWN,
        libc::EADDRNOTAVAIL,
        libc::EOPNOTSUPP,
        libc::EACCES,
        libc::ENOENT,
        libc::ERANGE,
        libc::EPERM,
        libc::EROFS,
        libc::ENODEV,
    ];
    match done {
        Err(error) if error.is_exists() => Ok(()),
        Err(error) if error.errno().is_some_and(|errno| IMPOSSIBLE.contains(&errno)) => {
            notice(format_args!("{error:#}"));
            Ok(())
        }
        done => done,
    }
}
