//! The kernel that pieces are made in: the host's namespace, and the container's.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use netlink::{Link, Mac, Netlink};
use nft::Nft;
use nix::errno::Errno;
use sys::file::{self, Hold};
use sys::{Error, NetNs, Result};

use crate::intent::Records;
use crate::rules;

/// Which of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The plugin's own.
    Host,
    /// The container's.
    Sandbox,
}

/// One rtnetlink socket in each namespace, and one for the host's packet rules when there are some to make.
pub struct Kernel {
    pub(super) host: Netlink,
    /// The container's; `None` for who never enters it.
    sandbox: Option<Sandbox>,
    /// Links that have been looked up: a plan names the same few again and again.
    indices: Vec<(Place, String, u32)>,
    /// The bridge that has been looked at last, and whether it learns from frames to link-local groups.
    bridge: Option<(String, bool)>,
    /// A bridge that has just been looked up, for the piece that needs it next.
    found_bridge: Option<Link>,
    /// The MAC address of a bridge that is not ours, before the attachment's port was added.
    pub(super) found_mac: Option<Mac>,
    /// Held shared from the moment a bridge is looked at; see [`Kernel::use_shared_links`].
    pub(super) shared_links: Option<File>,
    /// Held from the first packet rule on.
    records: Option<Records>,
    /// Dropped last, as late as can be: it waits for what was deleted.
    nft: Option<Nft>,
}

/// A container's namespace, and the socket in it.
struct Sandbox {
    netlink: Netlink,
    netns: NetNs,
}

/// Tells those who use a bridge from the one who would take it back; nothing is written to it.
const BRIDGES_LOCK: &str = "/run/moor/bridges.lock";

impl Kernel {
    /// Opens both; `netns` is the container's.
    ///
    /// # Errors
    /// A socket could not be made, or the namespace could not be entered.
    pub fn open(netns: NetNs) -> Result<Self> {
        let mut kernel = Self::open_host()?;
        kernel.sandbox = Some(Sandbox { netlink: Netlink::open_in(&netns)?, netns });
        Ok(kernel)
    }

    /// Opens the host's alone, for pieces that are all there.
    ///
    /// # Errors
    /// The socket could not be made.
    pub fn open_host() -> Result<Self> {
        Ok(Self {
            host: Netlink::open()?,
            sandbox: None,
            indices: Vec::new(),
            bridge: None,
            found_bridge: None,
            found_mac: None,
            shared_links: None,
            records: None,
            nft: None,
        })
    }

    /// The socket in the host's namespace.
    pub fn host(&self) -> &Netlink {
        &self.host
    }

    /// The socket in that place.
    ///
    /// # Errors
    /// The container's is asked for, and only the host's is open.
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

    /// The socket for the host's packet rules; opened when first asked for, so ask before anything is touched.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or the process may not use it.
    pub fn nft(&mut self) -> Result<&Nft> {
        // What is not there yet is made first, so that the borrow is the caller's.
        let nft = match self.nft.take() {
            Some(nft) => nft,
            None => rules::open()?,
        };
        Ok(self.nft.insert(nft))
    }

    /// The records of packet rules. From here to the end of the process, nobody makes anew what is on record: call it
    /// before a rule is made.
    ///
    /// # Errors
    /// They cannot be kept: see [`Records::open`].
    pub(super) fn records(&mut self) -> Result<&Records> {
        let records = match self.records.take() {
            Some(records) => records,
            None => Records::open()?,
        };
        Ok(self.records.insert(records))
    }

    /// A link that must be there.
    ///
    /// # Errors
    /// `is_not_found`, or the kernel could not be asked.
    pub fn link(&self, place: Place, name: &str) -> Result<Link> {
        let absent = || Error::new("find link", name, io::Error::from_raw_os_error(libc::ENODEV));
        self.netlink(place)?.link_by_name(name)?.ok_or_else(absent)
    }

    /// The index of a link that must be there; asked for once.
    pub(super) fn index(&mut self, place: Place, name: &str) -> Result<u32> {
        let known = self.indices.iter().find(|(p, n, _)| *p == place && n == name);
        if let Some((_, _, index)) = known {
            return Ok(*index);
        }
        let index = self.link(place, name)?.index;
        self.indices.push((place, name.into(), index));
        Ok(index)
    }

    /// Remembers a bridge that has just been looked at, for those who ask for its index or its nature.
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

    /// The real name of a bridge that may be given by an alternative one; `None` when there is no such link. It is not
    /// looked up again when it is used: nobody takes it back from here on.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn bridge_name(&mut self, name: &str) -> Result<Option<String>> {
        self.use_shared_links()?;
        self.found_bridge = self.host.link_by_name(name)?;
        Ok(self.found_bridge.as_ref().map(|link| link.name.clone()))
    }

    /// A bridge, as far as there is one: the one that was looked up last, or what the kernel has.
    pub(super) fn find_bridge(&mut self, name: &str) -> Result<Option<Link>> {
        match self.found_bridge.take().filter(|link| link.name == name) {
            None => self.host.link_by_name(name),
            found => Ok(found),
        }
    }

    /// Links that were made are gone again: another of the name would have another index.
    pub(super) fn forget_links(&mut self) {
        self.indices.clear();
        self.bridge = None;
    }

    /// The container's namespace.
    pub(super) fn netns(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.sandbox()?.netns.as_fd())
    }

    /// Runs `f` in that place's namespace.
    pub(super) fn within<T>(&self, place: Place, f: impl FnOnce() -> T) -> Result<T> {
        match place {
            Place::Host => Ok(f()),
            Place::Sandbox => self.sandbox()?.netns.enter(f),
        }
    }

    /// From here to the end of the process, nobody takes back a link that others may use too. Where the directory
    /// cannot be had (a read-only /run) there is no lock, and then nothing shared is ever taken back.
    ///
    /// # Errors
    /// Somebody who takes a link back does not come to an end.
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

    /// Whether no other process uses shared links now, nor will before this one ends.
    pub(super) fn alone(&self) -> bool {
        self.shared_links.as_ref().is_some_and(|lock| lock.try_lock().is_ok())
    }
}

fn learns_from_link_local(link: &Link) -> bool {
    link.bridge.is_some_and(|bridge| !bridge.no_link_local_learn)
}
