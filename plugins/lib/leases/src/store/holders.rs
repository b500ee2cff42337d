//! Leases by holder: found by the index or a listing, added, released and collected.

use std::net::IpAddr;

use sys::file;

use super::{Owners, Store, show};
use crate::cooldown;
use crate::index;
use crate::lease::{self, Holder};

impl Store {
    /// The addresses of leases with exactly this text.
    fn find(&mut self, text: &str) -> Result<Vec<IpAddr>, sys::Error> {
        let key = index::key(text);
        if let Owners::Indexed(index) = &self.owners
            && let Ok(hints) = index.get(key)
        {
            let named = hints.len();
            let found = self.verified(hints, text)?;
            if found.len() == named {
                return Ok(found);
            }
        }
        // The index failed, or a lease was rewritten in place, which does not change the
        // directory's time.
        if !matches!(self.owners, Owners::Listed(_)) {
            self.rebuild()?;
        }
        self.find_listed(key, text)
    }

    /// Searches all lease files for a lease of the holder that [`Store::held`] does not return,
    /// because it was rewritten in place. If there is one, `held` returns it from now on. Call this
    /// before you report that there is no lease.
    pub fn search_files(&mut self, holder: &Holder) -> Result<bool, sys::Error> {
        let known = matches!(self.owners, Owners::Listed(_)) || !lease::holds_unlocked(&self.dir, holder)?;
        if !known {
            self.rebuild()?;
        }
        Ok(!known)
    }

    fn find_listed(&self, key: u64, text: &str) -> Result<Vec<IpAddr>, sys::Error> {
        let hints = match &self.owners {
            Owners::Listed(all) => all.iter().filter(|(of, _)| *of == key).map(|(_, ip)| *ip).collect(),
            Owners::Indexed(index) => index
                .get(key)
                .map_err(|cause| sys::Error::new("read the index of", show(&self.dir), cause))?,
            Owners::Unknown => Vec::new(),
        };
        self.verified(hints, text)
    }

    fn verified(&self, hints: Vec<IpAddr>, text: &str) -> Result<Vec<IpAddr>, sys::Error> {
        let mut found = Vec::with_capacity(hints.len());
        for ip in hints {
            if self.text(ip)?.is_some_and(|is| is == text) {
                found.push(ip);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The holder's addresses, including leases with only the id: a holder with one gets no other.
    pub fn held(&mut self, holder: &Holder) -> Result<Vec<IpAddr>, sys::Error> {
        let mut ips = self.find(&holder.text)?;
        ips.extend(self.find(&holder.legacy)?);
        Ok(ips)
    }

    /// The holder's addresses and the text of their leases. Leases with only the id, which may be
    /// of another interface, count only if there is no other.
    fn releasable<'h>(&mut self, holder: &'h Holder) -> Result<(Vec<IpAddr>, &'h str), sys::Error> {
        let own = self.find(&holder.text)?;
        if own.is_empty() {
            Ok((self.find(&holder.legacy)?, &holder.legacy))
        } else {
            Ok((own, &holder.text))
        }
    }

    /// Adds a lease to the index, after the draft was linked.
    pub fn enter(&mut self, ip: IpAddr, holder: &Holder) {
        self.dirty = true;
        let key = index::key(&holder.text);
        let failed = match &mut self.owners {
            Owners::Indexed(index) => index.insert(key, ip).is_err(),
            Owners::Listed(all) => {
                all.push((key, ip));
                false
            }
            Owners::Unknown => false,
        };
        if failed {
            self.abandon_index();
        }
    }

    /// Stops using the index in this operation. It gets no stamp, so the next operation rebuilds
    /// it.
    fn abandon_index(&mut self) {
        self.owners = Owners::Unknown;
        self.dirty = false;
    }

    /// Removes a lease with a known holder.
    fn drop_lease(&mut self, ip: IpAddr, text: &str) -> Result<(), sys::Error> {
        self.dirty = true;
        file::remove(&self.path(ip))?;
        let failed = match &mut self.owners {
            Owners::Indexed(index) => index.remove(index::key(text), ip).is_err(),
            Owners::Listed(all) => {
                all.retain(|(_, of)| *of != ip);
                false
            }
            Owners::Unknown => false,
        };
        if failed {
            self.abandon_index();
        }
        Ok(())
    }

    /// Removes a lease of this operation. It was never in use, so there is no cool-down.
    pub fn take_back(&mut self, ip: IpAddr, holder: &Holder) -> Result<(), sys::Error> {
        self.drop_lease(ip, &holder.text)
    }

    /// Removes all leases of the holder, and returns their addresses. An error does not stop it.
    ///
    /// # Errors
    /// A lease is left.
    pub fn release(&mut self, holder: &Holder) -> Result<Vec<IpAddr>, sys::Error> {
        let mut releasable = self.releasable(holder)?;
        if releasable.0.is_empty() && self.search_files(holder)? {
            releasable = self.releasable(holder)?;
        }
        let (ips, text) = releasable;
        let mut failure = None;
        let mut gone = Vec::with_capacity(ips.len());
        for ip in ips {
            match self.drop_lease(ip, text) {
                Ok(()) => gone.push(ip),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.log_release(&gone);
        self.commit();
        // No lease was found, but one could not be read, which may be the holder's: fail, so that
        // DEL is tried again.
        match (failure, gone.is_empty(), self.unreadable.take()) {
            (Some(error), ..) | (None, true, Some(error)) => Err(error),
            _ => Ok(gone),
        }
    }

    /// Removes every lease for which `valid` is false, and returns their addresses; its arguments are
    /// the container id and, except for a lease of an old reference, the interface.
    ///
    /// # Errors
    /// The first one; it has continued after it.
    pub fn collect(&mut self, valid: impl Fn(&str, Option<&str>) -> bool) -> Result<Vec<IpAddr>, sys::Error> {
        let mut stale = Vec::new();
        let mut failure = self.visit(|ip, text| {
            let known = match text.split_once("\r\n") {
                Some((id, ifname)) => valid(id, Some(ifname)),
                None => valid(text, None),
            };
            if !known {
                stale.push((ip, text.to_owned()));
            }
            Ok(())
        })?;
        let mut gone = Vec::with_capacity(stale.len());
        for (ip, text) in stale {
            match self.drop_lease(ip, &text) {
                Ok(()) => gone.push(ip),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.log_release(&gone);
        self.commit();
        failure.map_or(Ok(gone), Err)
    }

    fn log_release(&self, ips: &[IpAddr]) {
        if let Some(log) = &self.log
            && !ips.is_empty()
        {
            cooldown::log_release(log, ips);
        }
    }

    /// The addresses that were released less than `seconds` ago.
    pub fn cooling_down(&self, seconds: u64) -> std::collections::HashSet<IpAddr> {
        self.log.as_ref().map(|log| cooldown::cooling_down(log, seconds)).unwrap_or_default()
    }
}
