//! What the plugins' verbs do with a store.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use cni::{Attachment, Code, Error};
use nix::errno::Errno;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::alloc::Offer;
use crate::boot::Roots;
use crate::error::AllocError;
use crate::lease::{self, Holder};
use crate::range::RangeSet;
use crate::store::{Place, Store};
use crate::text;

/// `IP` of CNI_ARGS; the last one counts, and empty means not given.
///
/// # Errors
/// It is no address.
pub fn requested_ip(args: &[(String, String)]) -> Result<Option<IpAddr>, Error> {
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

/// CHECK: the attachment has a lease, and those of the expected addresses that are the plugin's are
/// leased to it.
///
/// # Errors
/// The difference, as expected and actual.
pub fn check(
    roots: &Roots,
    place: &Place,
    (container_id, ifname): (&str, &str),
    expected: impl Iterator<Item = IpAddr>,
) -> Result<(), Error> {
    let plugin = place.plugin;
    let holder = Holder::new(container_id, ifname);
    let mut store = Store::open(roots, place)?;
    let mut held = store.held(&holder)?;
    if held.is_empty() && store.search_files(&holder)? {
        held = store.held(&holder)?;
    }
    store.commit();
    if held.is_empty() {
        return Err(Error::internal(format!(
            "{plugin}: Failed to find address added by container {container_id}"
        )));
    }
    for ip in expected {
        if held.contains(&ip) {
            continue;
        }
        let actual = match store.holder_of(ip)? {
            Some(text) if [&holder.text, &holder.legacy].contains(&&text) => continue,
            Some(text) => format!("leased to {}", text.replace("\r\n", " ")),
            None => "not leased".to_owned(),
        };
        return Err(Error::internal(format!(
            "{plugin}: lease of {ip}: expected: leased to {container_id} {ifname}, actual: {actual}"
        )));
    }
    Ok(())
}

/// DEL; returns the addresses that are free now. If there is no directory and none can be created,
/// there is no lease.
///
/// # Errors
/// A lease is left.
pub fn release(roots: &Roots, place: &Place, holder: &Holder) -> Result<Vec<IpAddr>, sys::Error> {
    let error = match Store::open(roots, place) {
        Ok(mut store) => return store.release(holder),
        Err(error) => error,
    };
    // The lock is not available (a read-only disk, a file instead of the directory). This is a
    // failure only if there is a lease.
    match lease::holds_unlocked(&place.dir(), holder) {
        Ok(false) => Ok(Vec::new()),
        Err(listing) if is_absent(&listing) => Ok(Vec::new()),
        _ => Err(error),
    }
}

/// Whether the directory does not exist, or its path is impossible.
fn is_absent(error: &sys::Error) -> bool {
    matches!(error.errno(), Some(nix::libc::ENOENT | nix::libc::ENOTDIR | nix::libc::ENAMETOOLONG))
}

/// GC; returns the addresses that are free now. A network without a directory has no leases; none
/// is created.
///
/// # Errors
/// A lease of an attachment that is not valid is left.
pub fn collect(roots: &Roots, place: &Place, valid: &HashSet<Attachment>) -> Result<Vec<IpAddr>, sys::Error> {
    match sys::file::open_dir(&place.dir()) {
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        _ => {
            let mut store = Store::open(roots, place)?;
            if let Some(others) = store.shared_with() {
                eprintln!(
                    "{}: GC collects no leases: {others}, and it gets only this machine's attachments",
                    place.plugin
                );
                return Ok(Vec::new());
            }
            let ids: HashSet<&str> = valid.iter().map(|of| of.container_id.as_str()).collect();
            store.collect(|id, ifname| match ifname {
                // A lease with only the id may be of any interface.
                None => ids.contains(id),
                Some(ifname) => {
                    valid.contains(&Attachment { container_id: id.to_owned(), ifname: ifname.to_owned() })
                }
            })
        }
    }
}

/// Checks that a lease can be created in the network's directory, or in its nearest existing parent.
/// A read-only or full disk is an error.
///
/// # Errors
/// Code 50.
pub fn writable(place: &Place) -> Result<(), Error> {
    nearest_is_writable(&place.dir()).map_err(|(path, errno)| {
        let msg =
            format!("{}: no lease can be written to {}: {}", place.plugin, path.display(), errno.desc());
        Error::new(Code::NotAvailable, msg).details(format!("errno={errno:?}"))
    })
}

fn nearest_is_writable(dir: &Path) -> Result<(), (&Path, Errno)> {
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

/// A set of an offer without a free address.
#[derive(Clone, Copy, Debug)]
pub struct Full<'a> {
    /// Its place among the sets.
    pub index: usize,
    /// The set.
    pub set: &'a RangeSet,
}

impl Full<'_> {
    /// The error for the runtime, with code 50.
    pub fn to_cni_error(self) -> Error {
        Error::new(Code::NotAvailable, AllocError::Exhausted(self.set.to_string()).to_string())
    }
}

/// The first set without a free address. Takes the lock only if a set seems full.
///
/// # Errors
/// The lock is not available.
pub fn full_set<'a>(roots: &Roots, place: &Place, offer: &'a Offer) -> Result<Option<Full<'a>>, sys::Error> {
    let dir = place.dir();
    if first_full(&dir, offer).is_none() {
        return Ok(None);
    }
    // The leases may be of an earlier boot; the first locked operation drops them. That must not
    // wait for an ADD: a node that is not ready gets none.
    Store::open(roots, place)?.commit();
    Ok(first_full(&dir, offer))
}

/// Nearly always, the first address of a set that is tried is free.
fn first_full<'a>(dir: &Path, offer: &'a Offer) -> Option<Full<'a>> {
    let has_free = |index: usize, set: &RangeSet| {
        set.candidates(lease::last_reserved(dir, index), &offer.exclude).any(|ip| {
            let path = dir.join(ip.to_string());
            access(&path, AccessFlags::F_OK).is_err() || lease::is_empty_file(&path)
        })
    };
    let full = offer.sets.iter().enumerate().find(|(index, set)| !has_free(*index, set));
    full.map(|(index, set)| Full { index, set })
}
