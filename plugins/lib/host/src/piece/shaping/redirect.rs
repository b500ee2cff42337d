//! The filter that leads a container's packets through its IFB link.

use netlink::{Discipline, Filter, Handle, Key, Netlink, Rule};
use sys::Result;

use super::super::{Kernel, Part, Place, Undo};
use crate::{Conflict, Drift};

/// linux/if_ether.h: packets of every protocol.
const ETH_P_ALL: u16 = 3;
/// The number that the kernel requires for the place.
const PLACE: Handle = Handle::discipline(0xffff);

/// All packets that arrive at a link of the host leave by another one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where they arrive: the host's end of a pair.
    pub link: String,
    /// The IFB link.
    pub to: String,
}

/// Whether a filter redirects to one of these links, or to one that is gone.
fn leads_to(filter: &Filter, links: &[u32]) -> bool {
    filter.redirects_to().is_some_and(|link| link == 0 || links.contains(&link))
}

/// Removes the redirection from a link of the host to one of these, and its place if it is empty
/// then; with `takes_empty` also a place that was empty before, which an ADD may have left that was
/// killed before it made the filter.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn withdraw(host: &Netlink, link: u32, to: &[u32], takes_empty: bool) -> Result<()> {
    let filters = host.filters(link, Handle::ARRIVING)?;
    let (ours, others): (Vec<&Filter>, Vec<&Filter>) =
        filters.iter().partition(|filter| leads_to(filter, to));
    if ours.is_empty() && !takes_empty {
        return Ok(());
    }
    // `clsact` has a place for leaving packets too, and is not ours.
    let place = host.qdisc(link, Handle::INGRESS)?.map(|place| place.discipline);
    if others.is_empty() && place == Some(Discipline::Ingress) {
        return host.delete_qdisc(link, Handle::INGRESS);
    }
    ours.into_iter().try_for_each(|filter| host.delete_filter(link, Handle::ARRIVING, filter))
}

impl Redirect {
    fn filter(to: u32) -> Filter {
        let rule = Rule {
            keys: vec![Key { offset: 0, mask: 0, value: 0 }],
            class: Handle::discipline(1).class(1),
            redirect: Some(to),
        };
        Filter { priority: 1, protocol: ETH_P_ALL, handle: Handle::NONE, rule: Some(rule) }
    }
}

impl Part for Redirect {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let (link, to) = (kernel.index(Place::Host, &self.link)?, kernel.index(Place::Host, &self.to)?);
        let host = &kernel.host;
        let is_there = host.qdisc(link, Handle::INGRESS)?.is_some();
        undo.push(Undo::Redirect { link: self.link.clone(), to: self.to.clone(), takes_empty: !is_there });
        if !is_there {
            host.create_qdisc(link, Handle::INGRESS, PLACE, &Discipline::Ingress)?;
        }
        let filters = host.filters(link, Handle::ARRIVING)?;
        if filters.iter().any(|filter| !leads_to(filter, &[to])) {
            return Err(Conflict::Filtered { link: self.link.clone() }.into());
        }
        if filters.iter().any(|filter| filter.redirects_to() == Some(to)) {
            return Ok(());
        }
        filters.iter().try_for_each(|filter| host.delete_filter(link, Handle::ARRIVING, filter))?;
        host.create_filter(link, Handle::ARRIVING, &Self::filter(to))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let what = format!("redirection of packets from {}", self.link);
        let drift = |actual: &str| Ok(vec![Drift::new(what.clone(), format!("to {}", self.to), actual)]);
        let Some(to) = kernel.host.link_by_name(&self.to)? else { return drift("none") };
        let link = kernel.index(Place::Host, &self.link)?;
        let filters = kernel.host.filters(link, Handle::ARRIVING)?;
        match filters.first() {
            None => drift("none"),
            Some(first) if first.redirects_to() != Some(to.index) => drift("another filter"),
            Some(first) if !first.matches_all() => drift("of some packets"),
            Some(_) => Ok(Vec::new()),
        }
    }
}
