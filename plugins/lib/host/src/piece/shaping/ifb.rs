//! The IFB link that a container's packets are led through.

use netlink::{Handle, Link, LinkChange, Netlink};
use sys::{Error, Result};

use super::super::{Feature, Kernel, Part, Place, Undo, sysctl};
use super::IFB;
use crate::iptables::hash;
use crate::{Drift, Owner};

/// An IFB link, which only one attachment uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ifb {
    /// Its name; see [`choose_ifb`].
    pub name: String,
    /// Its MTU in bytes: that of the link that it gets packets from.
    pub mtu: u32,
    /// Its owner's label: [`Owner::label`], kept as its alias.
    pub label: String,
}

/// The possible names of an owner's IFB link. The first is the reference's, so that its DEL finds
/// the link; it does not depend on the interface's name, so a container's second interface on the
/// network has the other one.
pub(super) fn names(owner: &Owner) -> [String; 2] {
    let Owner { network, container_id, ifname } = owner;
    let name = |texts: &[&str]| {
        let mut digits = hash(texts);
        digits.truncate(12);
        format!("bwp{digits}")
    };
    [name(&[network, container_id]), name(&[network, "/", ifname, "/", container_id])]
}

/// Chooses the name of the owner's IFB link: that of a link that it has, or a free one. `veth` is
/// the index of the host's end of its pair.
///
/// # Errors
/// Both names belong to others, or the kernel could not be asked.
pub fn choose_ifb(host: &Netlink, owner: &Owner, veth: u32) -> Result<String> {
    let mut free = None;
    for name in names(owner) {
        match host.link_by_name(&name)? {
            None => free = free.or(Some(name)),
            Some(link) if is_of(&link, owner) => return Ok(name),
            // The reference's, or that of an ADD that was killed before it could set the label.
            Some(link) if is_unlabelled(&link) && is_fed_by(host, &link, veth)? => return Ok(name),
            Some(_) => {}
        }
    }
    free.ok_or_else(|| {
        let names = names(owner).join(", ");
        Error::new("find a free name for the ifb link of", owner.label(), std::io::ErrorKind::AlreadyExists)
            .within(format!("all of {names} belong to others"))
    })
}

pub(super) fn is_of(link: &Link, owner: &Owner) -> bool {
    link.kind.as_deref() == Some(IFB) && link.alias.as_deref() == Some(&owner.label())
}

pub(super) fn is_unlabelled(link: &Link) -> bool {
    link.kind.as_deref() == Some(IFB) && link.alias.is_none()
}

fn is_fed_by(host: &Netlink, link: &Link, veth: u32) -> Result<bool> {
    let filters = host.filters(veth, Handle::ARRIVING)?;
    Ok(filters.iter().any(|filter| filter.redirects_to() == Some(link.index)))
}

impl Part for Ifb {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        if kernel.host.link_by_name(&self.name)?.is_none() {
            kernel.host.create_ifb(&self.name, self.mtu).map_err(|error| match error.is_not_supported() {
                true => error.within(Feature::Links(IFB).missing()),
                false => error,
            })?;
        }
        undo.push(Undo::Link(self.name.clone()));
        // Nothing is sent to it, so it needs no address.
        sysctl::best_effort(&format!("net/ipv6/conf/{}/disable_ipv6", self.name), "1");
        let index = kernel.index(Place::Host, &self.name)?;
        let change = LinkChange { alias: Some(&self.label), up: Some(true), ..LinkChange::default() };
        kernel.host.set_link(index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.name)? else {
            return Ok(vec![Drift::new(format!("ifb link {}", self.name), "present", "missing")]);
        };
        let kind = link.kind.clone().unwrap_or_else(|| "no virtual link".into());
        let mut drifts: Vec<_> =
            Drift::unless_equal(format!("kind of {}", self.name), IFB.to_owned(), kind).into_iter().collect();
        if !link.up() {
            drifts.push(Drift::new(format!("state of {}", self.name), "up", "down"));
        }
        Ok(drifts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_is_the_references_and_names_fit() {
        let owner = Owner::new("net", "c1", "eth0");
        // From the reference's own executable.
        assert_eq!(names(&owner)[0], "bwp623e1c388032");
        assert!(names(&owner).iter().all(|name| name.len() == 15));
        assert_ne!(names(&owner)[1], names(&Owner::new("net", "c1", "eth1"))[1]);
    }
}
