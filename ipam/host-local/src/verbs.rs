//! The verbs of the plugin.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use cni::{AddResult, Attachment, Code, Error, Plugin, Request, ValidAttachments};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::alloc::{Offer, allocate};
use crate::boot::Roots;
use crate::config::{Conf, PlaceConf, Settings};
use crate::error::AllocError;
use crate::lease::{self, Holder};
use crate::range::RangeSet;
use crate::resolv;
use crate::store::{Place, Store};
use crate::text;

/// The plugin.
#[derive(Clone, Debug, Default)]
pub struct HostLocal {
    /// Where the kernel's files and the state of this boot are.
    pub roots: Roots,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str =
        "Gives containers addresses from ranges, and keeps who has which in a directory.";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let settings = settings(request)?;
        let dns = settings.resolv_conf.as_deref().map(resolv::read).transpose()?.unwrap_or_default();
        let mut result = AddResult { routes: settings.routes.clone(), dns, ..AddResult::default() };
        let holder = Holder::new(&request.container_id, &request.ifname);
        let mut store = Store::open(&self.roots, &settings.place)?;
        // Every set gives an address, so the result can be said in every version: nothing to ask beforehand.
        result.ips =
            allocate(&mut store, &settings.offer, &settings.requested, &holder, &request.container_id)?;
        Ok(result)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let settings = settings(request)?;
        let expected: Vec<IpAddr> = match request.prev_result()? {
            Some(result) => result.ips.iter().map(|ip| ip.address.ip()).collect(),
            None => Vec::new(),
        };
        check(&self.roots, &settings, &request.container_id, &request.ifname, &expected)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let place = place(request)?;
        release(&self.roots, &place, &Holder::new(&request.container_id, &request.ifname))?;
        Ok(())
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let place = place(request)?;
        let ids: HashSet<&str> = valid.iter().map(|of| of.container_id.as_str()).collect();
        collect(&self.roots, &place, |id, ifname| match ifname {
            // A lease with the id alone may be any interface's.
            None => ids.contains(id),
            Some(ifname) => {
                valid.contains(&Attachment { container_id: id.to_owned(), ifname: ifname.to_owned() })
            }
        })?;
        Ok(())
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let settings = settings(request)?;
        status(&self.roots, &settings.place, &settings.offer)
    }
}

/// Whether the configuration of a request is one; nothing is touched.
///
/// # Errors
/// What is wrong with it.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

/// The whole configuration, checked.
fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let asked = asked(&request.args(&["IP"])?)?;
    conf.check(&request.network, request.version, asked).map_err(|error| error.reply())
}

/// `IP` of CNI_ARGS; the last one counts, an empty one is none.
fn asked(args: &[(String, String)]) -> Result<Option<IpAddr>, Error> {
    let mut asked = None;
    for (_, value) in args.iter().filter(|(key, _)| key == "IP") {
        asked = if value.is_empty() {
            None
        } else {
            Some(text::request(value).map_err(|cause| {
                Error::internal(format!("ARGS: error parsing value of pair \"IP={value}\": {cause}"))
            })?)
        };
    }
    Ok(asked)
}

/// Where the leases are. A range or an argument that is wrong must not keep a lease from being freed: the network's
/// name and the directory are enough.
fn place(request: &Request) -> Result<Place, Error> {
    match settings(request) {
        Ok(settings) => Ok(settings.place),
        Err(_) => request.config::<PlaceConf>()?.check(&request.network).map_err(|error| error.reply()),
    }
}

/// CHECK: the attachment has a lease, and those addresses of its result that are ours are leased to it.
fn check(
    roots: &Roots,
    settings: &Settings,
    container_id: &str,
    ifname: &str,
    expected: &[IpAddr],
) -> Result<(), Error> {
    let holder = Holder::new(container_id, ifname);
    let mut store = Store::open(roots, &settings.place)?;
    let mut held = store.held(&holder)?;
    if held.is_empty() && store.look_again(&holder)? {
        held = store.held(&holder)?;
    }
    store.commit();
    if held.is_empty() {
        return Err(Error::internal(format!(
            "host-local: Failed to find address added by container {container_id}"
        )));
    }
    for ip in expected.iter().filter(|ip| settings.offer.sets.iter().any(|set| set.range_of(**ip).is_some()))
    {
        if held.contains(ip) {
            continue;
        }
        let actual = match store.holder_of(*ip)? {
            Some(text) if [&holder.text, &holder.legacy].contains(&&text) => continue,
            Some(text) => format!("leased to {}", text.replace("\r\n", " ")),
            None => "not leased".to_owned(),
        };
        return Err(Error::internal(format!(
            "host-local: lease of {ip}: expected: leased to {container_id} {ifname}, actual: {actual}"
        )));
    }
    Ok(())
}

/// DEL. Where there is no directory, and none can be made, nothing is leased.
fn release(roots: &Roots, place: &Place, holder: &Holder) -> Result<(), sys::Error> {
    let error = match Store::open(roots, place) {
        Ok(mut store) => return store.release(holder),
        Err(error) => error,
    };
    // No lock can be had (a read-only disk, a file in the way). Only a lease that is there makes that a failure.
    match lease::holds_unlocked(&place.dir(), holder) {
        Ok(false) => Ok(()),
        Err(listing) if is_absent(&listing) => Ok(()),
        _ => Err(error),
    }
}

/// No such directory, and none that could ever have been.
fn is_absent(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ENAMETOOLONG))
}

/// GC. A network that has no directory has no leases, and gets no directory.
fn collect(
    roots: &Roots,
    place: &Place,
    valid: impl Fn(&str, Option<&str>) -> bool,
) -> Result<(), sys::Error> {
    match sys::file::open_dir(&place.dir()) {
        Err(error) if is_absent(&error) => Ok(()),
        _ => {
            let mut store = Store::open(roots, place)?;
            if let Some(others) = store.shared_with() {
                eprintln!("host-local: GC collects no leases: {others}, whose containers it is not given");
                return Ok(());
            }
            store.collect(valid)
        }
    }
}

/// STATUS: the directory can be written, and every set has a free address. Takes no lock unless a set seems full.
fn status(roots: &Roots, place: &Place, offer: &Offer) -> Result<(), Error> {
    let unavailable = |msg: String| Error::new(Code::NotAvailable, msg);
    let dir = place.dir();
    writable(&dir).map_err(|(path, errno)| {
        unavailable(format!("host-local: no lease can be written to {}: {}", path.display(), errno.desc()))
            .details(format!("errno={errno:?}"))
    })?;
    if full_set(&dir, offer).is_none() {
        return Ok(());
    }
    // Perhaps full of leases of an earlier boot, which the first locked operation drops. If that had to be an ADD, a
    // node that is not ready for want of addresses would never get ready.
    Store::open(roots, place)?.commit();
    match full_set(&dir, offer) {
        None => Ok(()),
        Some(set) => Err(unavailable(AllocError::Exhausted(set.to_string()).to_string())),
    }
}

/// Whether a file can be made in `dir`, or in the nearest directory on the way to it that exists: as the kernel sees
/// it, a disk that is read-only or full included.
fn writable(dir: &Path) -> Result<(), (&Path, Errno)> {
    for at in dir.ancestors() {
        let at = if at == Path::new("") { Path::new(".") } else { at };
        match access(at, AccessFlags::W_OK | AccessFlags::X_OK) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err((at, errno)),
            Ok(()) if !at.is_dir() => return Err((at, Errno::ENOTDIR)),
            Ok(()) => {
                let disk = statvfs(at).map_err(|errno| (at, errno))?;
                // A filesystem that does not count says 0 of 0.
                let full = (disk.blocks() > 0 && disk.blocks_free() == 0)
                    || (disk.files() > 0 && disk.files_free() == 0);
                return if full { Err((at, Errno::ENOSPC)) } else { Ok(()) };
            }
        }
    }
    Err((dir, Errno::ENOENT))
}

/// The first set of which ADD would find no address. Nearly always it is the first address it tries that is free.
fn full_set<'a>(dir: &Path, offer: &'a Offer) -> Option<&'a RangeSet> {
    let has_free = |(index, set): (usize, &RangeSet)| {
        set.candidates(lease::last_reserved(dir, index), &offer.exclude).any(|ip| {
            let path = dir.join(ip.to_string());
            access(&path, AccessFlags::F_OK).is_err() || lease::is_empty_file(&path)
        })
    };
    offer.sets.iter().enumerate().find(|set| !has_free(*set)).map(|(_, set)| set)
}

#[cfg(test)]
mod tests;
