//! The commands of the plugin.

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
    /// The paths of the kernel's files and of the state of this boot.
    pub roots: Roots,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str =
        "leases addresses from ranges to containers, and keeps the leases in a directory";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let settings = settings(request)?;
        let dns = settings.resolv_conf.as_deref().map(resolv::read).transpose()?.unwrap_or_default();
        let mut result = AddResult { routes: settings.routes.clone(), dns, ..AddResult::default() };
        let holder = Holder::new(&request.container_id, &request.ifname);
        let mut store = Store::open(&self.roots, &settings.place)?;
        // Every set allocates an address, so the result can be converted to every version.
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
            // A lease with only the id may be of any interface.
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

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

/// The checked configuration.
fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let requested_ip = requested_ip(&request.args(&["IP"])?)?;
    conf.check(&request.network, request.version, requested_ip).map_err(|error| error.to_cni_error())
}

/// `IP` of CNI_ARGS; the last one counts, and empty means not given.
fn requested_ip(args: &[(String, String)]) -> Result<Option<IpAddr>, Error> {
    let mut requested = None;
    for (_, value) in args.iter().filter(|(key, _)| key == "IP") {
        requested = if value.is_empty() {
            None
        } else {
            Some(text::request(value).map_err(|cause| {
                Error::internal(format!("ARGS: error parsing value of pair \"IP={value}\": {cause}"))
            })?)
        };
    }
    Ok(requested)
}

/// The place of the leases. The network's name and the directory are enough: a wrong range or
/// argument must not prevent the release of a lease.
fn place(request: &Request) -> Result<Place, Error> {
    match settings(request) {
        Ok(settings) => Ok(settings.place),
        Err(_) => {
            request.config::<PlaceConf>()?.check(&request.network).map_err(|error| error.to_cni_error())
        }
    }
}

/// CHECK: the attachment has a lease, and the addresses of its result that are in our ranges are
/// leased to it.
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
    if held.is_empty() && store.search_files(&holder)? {
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

/// DEL. If there is no directory and none can be created, there is no lease.
fn release(roots: &Roots, place: &Place, holder: &Holder) -> Result<(), sys::Error> {
    let error = match Store::open(roots, place) {
        Ok(mut store) => return store.release(holder),
        Err(error) => error,
    };
    // The lock is not available (a read-only disk, a file instead of the directory). This is a
    // failure only if there is a lease.
    match lease::holds_unlocked(&place.dir(), holder) {
        Ok(false) => Ok(()),
        Err(listing) if is_absent(&listing) => Ok(()),
        _ => Err(error),
    }
}

/// Whether the directory does not exist, or its path is impossible.
fn is_absent(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ENAMETOOLONG))
}

/// GC. A network without a directory has no leases; none is created.
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
                eprintln!(
                    "host-local: GC collects no leases: {others}, and it gets only this machine's attachments"
                );
                return Ok(());
            }
            store.collect(valid)
        }
    }
}

/// STATUS: the directory is writable, and every set has a free address. Takes the lock only if a
/// set seems full.
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
    // The leases may be of an earlier boot; the first locked operation drops them. That must not
    // wait for an ADD: a node that is not ready gets none.
    Store::open(roots, place)?.commit();
    match full_set(&dir, offer) {
        None => Ok(()),
        Some(set) => Err(unavailable(AllocError::Exhausted(set.to_string()).to_string())),
    }
}

/// Checks that a file can be created in `dir`, or in its nearest existing parent. A read-only or
/// full disk is an error.
fn writable(dir: &Path) -> Result<(), (&Path, Errno)> {
    for at in dir.ancestors() {
        let at = if at == Path::new("") { Path::new(".") } else { at };
        match access(at, AccessFlags::W_OK | AccessFlags::X_OK) {
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err((at, errno)),
            Ok(()) if !at.is_dir() => return Err((at, Errno::ENOTDIR)),
            Ok(()) => {
                let disk = statvfs(at).map_err(|errno| (at, errno))?;
                // A filesystem that does not count reports 0 of 0.
                let full = (disk.blocks() > 0 && disk.blocks_free() == 0)
                    || (disk.files() > 0 && disk.files_free() == 0);
                return if full { Err((at, Errno::ENOSPC)) } else { Ok(()) };
            }
        }
    }
    Err((dir, Errno::ENOENT))
}

/// The first set without a free address. Nearly always, the first address of a set that is tried is
/// free.
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
