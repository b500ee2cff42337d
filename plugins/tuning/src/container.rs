//! The container's namespace, where DEL and GC set back what a record has.

use host::notice;
use host::piece::{LinkSettings, set_back};
use netlink::Netlink;
use sys::{Error, NetNs, Result};

use crate::record::Record;

/// An open namespace.
#[derive(Debug)]
pub struct Container {
    netns: NetNs,
    netlink: Netlink,
}

/// A name for a container's namespace, which no other has until the next boot; before Linux 5.14,
/// while it lives.
pub fn space(inode: u64, netlink: &Netlink) -> String {
    match netlink.netns_cookie() {
        Some(cookie) => cookie.to_string(),
        None => format!("inode-{inode}"),
    }
}

impl Container {
    /// Opens the namespace at a path; `None` if there is none.
    ///
    /// # Errors
    /// The path cannot be examined, or the namespace cannot be entered.
    pub fn open(path: &str) -> Result<Option<Self>> {
        let failed = |error| Error::new("open the network namespace", path, std::io::Error::other(error));
        match NetNs::open_if_there(path).map_err(failed)? {
            Some(netns) => Ok(Some(Self { netlink: Netlink::open_in(&netns)?, netns })),
            None => Ok(None),
        }
    }

    /// Opens the namespace of a record, at the path of the request or of the record; `None` if it is
    /// gone.
    ///
    /// # Errors
    /// As for [`Container::open`].
    pub fn of(record: &Record, path: &str) -> Result<Option<Self>> {
        let recorded =
            record.netns.as_ref().filter(|netns| !netns.is_gone()).map(|netns| netns.path.as_str());
        for path in [path].into_iter().chain(recorded) {
            if let Some(found) = Self::open(path)?
                && space(found.netns.inode()?, &found.netlink) == record.space
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Sets back the link first, then the parameters: the reverse of ADD's order. What is gone needs
    /// nothing.
    ///
    /// # Errors
    /// The first error that another attempt may not meet; everything else is set.
    pub fn set_back(&self, record: &Record, siblings: &[Record]) -> Result<()> {
        let link = self.netlink.link_by_index(record.index)?;
        let outcome = match &link {
            Some(link) => lasting(record.link.set(&self.netlink, link.index)),
            None => Ok(()),
        };
        let parameters = record.set_back(siblings, link.as_ref().map(|link| link.name.as_str()));
        outcome.and(lasting(self.netns.enter(|| set_back(&parameters))?))
    }

    /// Sets back a link by its name alone: what the reference's backup has.
    ///
    /// # Errors
    /// As for [`Container::set_back`].
    pub fn set_back_link(&self, name: &str, settings: &LinkSettings) -> Result<()> {
        match self.netlink.link_by_name(name)? {
            Some(link) => lasting(settings.set(&self.netlink, link.index)),
            None => Ok(()),
        }
    }
}

/// Logs an error that every attempt would meet: a DEL that fails for ever keeps a container from
/// going.
fn lasting(outcome: Result<()>) -> Result<()> {
    const LASTING: [i32; 6] =
        [libc::EINVAL, libc::EPERM, libc::EACCES, libc::EROFS, libc::EBUSY, libc::EOPNOTSUPP];
    match outcome {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.errno().is_some_and(|errno| LASTING.contains(&errno)) => {
            notice(format_args!("not set back: {error:#}"));
            Ok(())
        }
        outcome => outcome,
    }
}
