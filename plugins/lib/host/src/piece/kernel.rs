//! Access to the kernel in both namespaces: the host's and the container's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use netlink::{Link, Mac, Netlink};
use nft::Nft;
use nix::errno::Errno;
use sys::file::{self, Hold};
use sys::{Error, NetNs, Result};

use super::overlay;
use crate::intent::Records;
use crate::rules;

/// One of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The plugin's own.
    Host,
    /// The container's.
    Sandbox,
}

/// One rtnetlink socket in each namespace, and a socket for the host's packet rules if needed.
pub struct Kernel {
    pub(super) host: Netlink,
    /// The container's; `None` if it is never entered.
    sandbox: Option<Sandbox>,
    /// Links that were looked up: a plan names the same few repeatedly.
    indices: Vec<(Place, String, u32)>,
    /// The bridge looked up last, and whether it learns from frames to link-local groups.
    bridge: Option<(String, bool)>,
    /// A bridge that was just looked up, for the next piece.
    found_bridge: Option<Link>,
    /// The MAC address of a bridge that is not ours, before the attachment's port was added.
    pub(super) found_mac: Option<Mac>,
    /// Held shared from the first lookup of a bridge; see [`Kernel::use_shared_links`].
    pub(super) shared_links: Option<File>,
    /// Held shared from the first piece of an overlay network until it has its port.
    overlay_links: Option<File>,
    /// Held from the first packet rule on.
    records: Option<Records>,
    /// Dropped last, as late as possible: closing it waits for deleted objects.
    nft: Option<Nft>,
}

/// A container's namespace, and the socket in it.
struct Sandbox {
    netlink: Netlink,
    netns: NetNs,
}

/// Separates users of a bridge from a process that deletes it; nothing is written to it.
const BRIDGES_LOCK: &str = "/run/moor/bridges.lock";

impl Kernel {
    /// Opens both; `netns` is the container's.
    ///
    /// # Errors
    /// A socket cannot be created, or the namespace cannot be entered.
    pub fn open(netns: NetNs) -> Result<Self> {
        let mut kernel = Self::open_host()?;
        kernel.sandbox = Some(Sandbox { netlink: Netlink::open_in(&netns)?, netns });
        Ok(kernel)
    }

    /// Opens only the host's, for pieces that need nothing else.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn open_host() -> Result<Self> {
        Ok(Self {
            host: Netlink::open()?,
            sandbox: None,
            indices: Vec::new(),
            bridge: None,
            found_bridge: None,
            found_mac: None,
            shared_links: None,
            overlay_links: None,
            records: None,
            nft: None,
        })
    }

    /// The socket in the host's namespace.
    pub fn host(&self) -> &Netlink {
        &self.host
    }

    /// The socket in that namespace.
    ///
    /// # Errors
    /// The container's is requested, and only the host's is open.
    pub fn netlink(&self, place: Place) -> Result<&Netlink> {
        match place {
            Place::Host => Ok(&self.host),
            Place::Sandbox => Ok(&self.sandbox()?.netlink),
        }
    }

    fn sandbox(&self) -> Result<&Sandbox> {
        let closed = || Error::new("enter", "the container's namespace", Errno::ENOTCONN);
        self.sandbox.as_ref().ok_or_else(closed)
    }

    /// The socket for the host's packet rules, opened at the first request: request it before
    /// changing anything.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the process may not use it.
    pub fn nft(&mut self) -> Result<&Nft> {
        // Open a missing socket first, so that the borrow is the caller's.
        let nft = match self.nft.take() {
            Some(nft) => nft,
            None => rules::open()?,
        };
        Ok(self.nft.insert(nft))
    }

    /// The records of packet rules. From here to the end of the process, no other process restores
    /// recorded rules: call it before creating a rule.
    ///
    /// # Errors
    /// They cannot be opened: see [`Records::open`].
    pub(super) fn records(&mut self) -> Result<&Records> {
        let records = match self.records.take() {
            Some(records) => records,
            None => Records::open()?,
        };
        Ok(self.records.insert(records))
    }

    /// Returns a link that must exist.
    ///
    /// # Errors
    /// `is_not_found`, or the kernel could not be asked.
    pub fn link(&self, place: Place, name: &str) -> Result<Link> {
        let absent = || Error::new("find link", name, io::Error::from_raw_os_error(libc::ENODEV));
        self.netlink(place)?.link_by_name(name)?.ok_or_else(absent)
    }

    /// Returns the index of a link that must exist; looked up once.
    pub(super) fn index(&mut self, place: Place, name: &str) -> Result<u32> {
        let known = self.indices.iter().find(|(p, n, _)| *p == place && n == name);
        if let Some((_, _, index)) = known {
            return Ok(*index);
        }
        let index = self.link(place, name)?.index;
        self.indices.push((place, name.into(), index));
        Ok(index)
    }

    /// Caches a bridge that was just looked up, for its index and attributes.
    pub(super) fn remember_bridge(&mut self, link: &Link) {
        self.indices.push((Place::Host, link.name.clone(), link.index));
        self.bridge = Some((link.name.clone(), learns_from_link_local(link)));
    }

    /// Whether a bridge learns from frames to link-local groups.
    pub(super) fn learns_from_link_local(&self, name: &str) -> Result<bool> {
        match &self.bridge {
            Some((known, learns)) if known == name => Ok(*learns),
            _ => Ok(self.host.link_by_name(name)?.is_some_and(|link| learns_from_link_local(&link))),
        }
    }

    /// The real name of a bridge, which may be given by an alternative name; `None` when it does
    /// not exist. It is not looked up again when it is used: nobody deletes it from here on.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn bridge_name(&mut self, name: &str) -> Result<Option<String>> {
        self.use_shared_links()?;
        self.found_bridge = self.host.link_by_name(name)?;
        Ok(self.found_bridge.as_ref().map(|link| link.name.clone()))
    }

    /// The bridge, if it exists: from the cache or the kernel.
    pub(super) fn find_bridge(&mut self, name: &str) -> Result<Option<Link>> {
        match self.found_bridge.take().filter(|link| link.name == name) {
            None => self.host.link_by_name(name),
            found => Ok(found),
        }
    }

    /// Clears the cache after created links were deleted: a new link of the same name has another
    /// index.
    pub(super) fn forget_links(&mut self) {
        self.indices.clear();
        self.bridge = None;
    }

    /// The container's namespace.
    pub(super) fn netns(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.sandbox()?.netns.as_fd())
    }

    /// Runs `f` in that namespace.
    pub(super) fn within<T>(&self, place: Place, f: impl FnOnce() -> T) -> Result<T> {
        match place {
            Place::Host => Ok(f()),
            Place::Sandbox => self.sandbox()?.netns.enter(f),
        }
    }

    /// From here to the end of the process, no other process deletes a link that others may use
    /// too. Without the directory (a read-only /run) there is no lock, and nothing shared is ever
    /// deleted.
    ///
    /// # Errors
    /// A process that deletes a link does not finish.
    pub(super) fn use_shared_links(&mut self) -> Result<()> {
        if self.shared_links.is_none() {
            let locked = file::make_private_dir(Path::new(file::RUN_DIR), 1)
                .and_then(|()| file::lock_as(Path::new(BRIDGES_LOCK), 0o600, Hold::Shared));
            self.shared_links = match locked {
                Err(error) if error.errno() == Some(libc::EAGAIN) => return Err(error),
                locked => locked.ok(),
            };
        }
        Ok(())
    }

    /// From here on, until [`Kernel::leave_overlay_links`], no other process takes the links of an
    /// overlay network away.
    ///
    /// # Errors
    /// A process that takes such links away does not finish.
    pub(super) fn use_overlay_links(&mut self) -> Result<()> {
        if self.overlay_links.is_none() {
            self.overlay_links = Some(overlay::use_links()?);
        }
        Ok(())
    }

    /// The bridge has the attachment's port, or the attachment failed.
    pub(super) fn leave_overlay_links(&mut self) {
        self.overlay_links = None;
    }

    /// Whether no other process uses shared links now, nor will before this one ends.
    pub(super) fn alone(&self) -> bool {
        self.shared_links.as_ref().is_some_and(|lock| lock.try_lock().is_ok())
    }
}

fn learns_from_link_local(link: &Link) -> bool {
    link.bridge.is_some_and(|bridge| !bridge.no_link_local_learn)
}
