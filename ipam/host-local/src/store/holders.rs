//! Who holds what: found through the index or the listing, entered, released, collected.

use std::net::IpAddr;

use sys::file;

use super::{Owners, Store, show};
use crate::index;
use crate::lease::{self, Holder};
use crate::rest;

impl Store {
    /// The addresses whose lease has exactly this text.
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
        // The index failed, or a lease was rewritten in place, of which the directory's time knows nothing.
        if !matches!(self.owners, Owners::Listed(_)) {
            self.rebuild()?;
        }
        self.find_listed(key, text)
    }

    /// Whether there is a lease of the holder that [`Store::held`] does not name, since it was rewritten in place; from
    /// here on it does. All leases are read: this is for who would be told that there is none.
    pub fn look_again(&mut self, holder: &Holder) -> Result<bool, sys::Error> {
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

    /// What the holder holds, leases with the id alone included: who has one may not get another.
    pub fn held(&mut self, holder: &Holder) -> Result<Vec<IpAddr>, sys::Error> {
        let mut ips = self.find(&holder.text)?;
        ips.extend(self.find(&holder.legacy)?);
        Ok(ips)
    }

    /// What the holder holds; leases with the id alone only when there is no other, since they may be those of
    /// another interface.
    /// With them their text.
    fn releasable<'h>(&mut self, holder: &'h Holder) -> Result<(Vec<IpAddr>, &'h str), sys::Error> {
        let own = self.find(&holder.text)?;
        if own.is_empty() {
            Ok((self.find(&holder.legacy)?, &holder.legacy))
        } else {
            Ok((own, &holder.text))
        }
    }

    /// Enters a lease that a draft was linked as.
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
            self.forsake_index();
        }
    }

    /// Gives up the index for this operation; without a stamp the next one builds it anew.
    fn forsake_index(&mut self) {
        self.owners = Owners::Unknown;
        self.dirty = false;
    }

    /// Removes a lease of which it is known whose it is.
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
            self.forsake_index();
        }
        Ok(())
    }

    /// Takes back a lease that this very operation made; the address does not rest, nobody had it.
    pub fn take_back(&mut self, ip: IpAddr, holder: &Holder) -> Result<(), sys::Error> {
        self.drop_lease(ip, &holder.text)
    }

    /// Removes all leases of the holder. What was removed is gone also when a later one fails.
    pub fn release(&mut self, holder: &Holder) -> Result<(), sys::Error> {
        let mut releasable = self.releasable(holder)?;
        if releasable.0.is_empty() && self.look_again(holder)? {
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
        self.rest(&gone);
        self.commit();
        // Nothing found, but a lease could not be read: it may be this one, and a retry may tell.
        match (failure, gone.is_empty(), self.unreadable.take()) {
            (Some(error), ..) | (None, true, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes every lease that `valid` does not know; it is asked with the container id and, unless the lease is an
    /// old one, the interface. Goes on after errors and gives the first.
    pub fn collect(&mut self, valid: impl Fn(&str, Option<&str>) -> bool) -> Result<(), sys::Error> {
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
        self.rest(&gone);
        self.commit();
        failure.map_or(Ok(()), Err)
    }

    fn rest(&self, ips: &[IpAddr]) {
        if let Some(log) = &self.log
            && !ips.is_empty()
        {
            rest::note(log, ips);
        }
    }

    /// The addresses that rest for `cooldown` seconds after their release.
    pub fn resting(&self, cooldown: u64) -> std::collections::HashSet<IpAddr> {
        self.log.as_ref().map(|log| rest::resting(log, cooldown)).unwrap_or_default()
    }
}
