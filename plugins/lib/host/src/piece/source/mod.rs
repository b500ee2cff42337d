//! Routes by source: packets from a container's address leave by the link that has the address.
//!
//! Each address has a rule (`from ADDRESS lookup TABLE`) and a table with the link's routes, which
//! leave the main table. The rule comes first: it reserves the table, leads DEL to it, and changes
//! nothing while the table is empty. The routes go to the table before they leave the main one, and
//! keep their protocols, by which DEL knows those that it puts back. Rules, and routes made here,
//! have the protocol of all our routes.

mod removal;
mod select;

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::{Netlink, PolicyRule, Route, WholeRoute};
use sys::{Error, Result};

use super::host_routes::PROTOCOL;
use super::tables::{self, Tables};
use super::{Kernel, Part, Place, Undo};
use crate::{Drift, notice};

pub use removal::{Table, remove_source_routing};
pub(super) use removal::{return_to_main, withdraw};

/// The first table that is tried.
const FIRST_TABLE: u32 = 100;

/// The routes by source of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceRouting {
    /// The container's link.
    pub link: String,
    /// Its addresses.
    pub sources: Vec<Source>,
    /// An administrator's table, which is only named by rules; `None` makes one for each address.
    pub table: Option<u32>,
    /// The main table keeps the routes to the link's subnets, with the address as source.
    pub hints: bool,
}

/// An address of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address, and its subnet.
    pub net: IpNetwork,
    /// The next hop of its default route.
    pub gateway: Option<IpAddr>,
    /// Whether this next hop replaces the default routes that the link has.
    pub replaces_default: bool,
}

impl Source {
    fn rule(&self, table: u32) -> PolicyRule {
        let source = IpNetwork::from(self.net.ip());
        PolicyRule { source, table, priority: None, protocol: PROTOCOL, is_plain: true }
    }

    fn is_source_of(&self, rule: &PolicyRule) -> bool {
        rule.is_plain && rule.is_for_one_address() && rule.source.ip() == self.net.ip()
    }
}

impl Part for SourceRouting {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Sandbox, &self.link)?;
        let netlink = kernel.netlink(Place::Sandbox)?;
        let _lock = tables::lock()?;
        let rules = netlink.rules().map_err(without_rules)?;
        match self.table {
            Some(table) => self.sources.iter().try_for_each(|source| {
                match rules.iter().any(|rule| source.is_source_of(rule) && rule.table == table) {
                    true => Ok(()),
                    false => add(netlink, source.rule(table), None, undo),
                }
            }),
            None => self.fill_tables(netlink, index, &rules, undo),
        }
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let netlink = kernel.netlink(Place::Sandbox)?;
        let Some(link) = netlink.link_by_name(&self.link)? else {
            return Ok(vec![Drift::new(format!("interface {}", self.link), "present", "missing")]);
        };
        let rules = netlink.rules()?;
        let routes = netlink.whole_routes(Some(link.index))?;
        let mut drifts: Vec<Drift> =
            self.sources.iter().filter_map(|source| self.drift(source, &rules, &routes)).collect();
        // The kernel adds what a router advertises at any time, and any neighbour may advertise.
        let in_main = |route: &WholeRoute| {
            let first = route.first();
            let learned = first.protocol == Route::BY_ADVERTISEMENT;
            first.table == Route::MAIN_TABLE && first.is_default() && route.is_unicast() && !learned
        };
        if self.table.is_none() && routes.iter().any(in_main) {
            drifts.push(Drift::new(
                format!("default route of {} in the main table", self.link),
                "none",
                "present",
            ));
        }
        Ok(drifts)
    }
}

impl SourceRouting {
    fn fill_tables(
        &self,
        netlink: &Netlink,
        index: u32,
        rules: &[PolicyRule],
        undo: &mut Vec<Undo>,
    ) -> Result<()> {
        let all = netlink.whole_routes(None)?;
        let mut used = Tables::of(netlink, rules, &all)?;
        let main = select::of_link(&all, index);
        for source in &self.sources {
            let table = match reserved(source, rules, &all, index) {
                Some(table) => table,
                None => {
                    let table = used.take(FIRST_TABLE)?;
                    add(netlink, source.rule(table), Some(index), undo)?;
                    table
                }
            };
            let there: Vec<Route> =
                all.iter().map(WholeRoute::first).filter(|route| route.table == table).collect();
            fill(netlink, index, table, &there, select::for_source(source, &self.sources, &main), source)?;
        }
        let leaving = select::leaving(&all, index, &self.sources, self.hints);
        undo.push(Undo::MainRoutes(leaving.clone()));
        leaving.iter().try_for_each(|route| or_gone(netlink.delete_whole_route(route)))?;
        if self.hints {
            self.hint(netlink, index);
        }
        Ok(())
    }

    /// Puts the routes to the link's subnets into the main table. They are a comfort, for programs
    /// that bind to no address.
    fn hint(&self, netlink: &Netlink, index: u32) {
        for source in &self.sources {
            if let Some(route) = select::hint(source, index)
                && let Err(error) = or_there(netlink.add_route(&route, true))
            {
                notice(format_args!("{error:#}"));
            }
        }
    }

    fn drift(&self, source: &Source, rules: &[PolicyRule], routes: &[WholeRoute]) -> Option<Drift> {
        let what = format!("rule for packets from {}", source.net.ip());
        let mut own = rules.iter().filter(|rule| source.is_source_of(rule));
        if let Some(table) = self.table {
            let found = own.any(|rule| rule.table == table);
            return (!found).then(|| Drift::new(what, format!("lookup {table}"), "missing"));
        }
        let tables: Vec<u32> =
            own.map(|rule| rule.table).filter(|table| !tables::is_reserved(*table)).collect();
        if tables.is_empty() {
            return Some(Drift::new(what, "a table of its own", "missing"));
        }
        let gateway = source.gateway?;
        let mut defaults = routes.iter().filter(|route| {
            route.first().is_default()
                && route.first().dst.is_ipv4() == gateway.is_ipv4()
                && tables.contains(&route.first().table)
        });
        let is_it = |route: &WholeRoute| {
            !source.replaces_default || route.hops().iter().any(|hop| hop.gateway == Some(gateway))
        };
        let what = format!("default route of packets from {}", source.net.ip());
        (!defaults.any(is_it)).then(|| Drift::new(what, format!("via {gateway}"), "missing"))
    }
}

/// The table that an earlier ADD reserved for the source, unless other links use it.
fn reserved(source: &Source, rules: &[PolicyRule], all: &[WholeRoute], index: u32) -> Option<u32> {
    let own = |rule: &&PolicyRule| source.is_source_of(rule) && rule.protocol == PROTOCOL;
    let tables = rules.iter().filter(own).map(|rule| rule.table);
    tables
        .filter(|table| !tables::is_reserved(*table))
        .find(|table| all.iter().all(|route| route.first().table != *table || route.is_only_through(index)))
}

/// Adds a rule. `filled`: the link of which its table gets routes.
fn add(netlink: &Netlink, rule: PolicyRule, filled: Option<u32>, undo: &mut Vec<Undo>) -> Result<()> {
    undo.push(Undo::SourceRule(rule, filled));
    netlink.add_rule(&rule).map_err(without_rules)
}

/// Gives a source's table the routes, and a default route by its gateway. `there` are those that
/// it has.
fn fill(
    netlink: &Netlink,
    index: u32,
    table: u32,
    there: &[Route],
    copied: Vec<&WholeRoute>,
    source: &Source,
) -> Result<()> {
    let (behind, on_link): (Vec<_>, Vec<_>) = copied.into_iter().partition(|route| route.has_gateway());
    let copy = |route: &&WholeRoute| or_there(netlink.append_route(&route.in_table(table)));
    on_link.iter().try_for_each(copy)?;
    let has_default = behind.iter().any(|route| route.first().is_default());
    if let Some(route) = select::default_route(source, index, table, has_default) {
        let made = |route: &&Route| route.is_default() && route.protocol == PROTOCOL;
        let others = || there.iter().filter(|route| route.is_default() && route.dst == source.any());
        for stale in others().filter(made).filter(|made| made.gateway != route.gateway) {
            or_gone(netlink.delete_route(stale))?;
        }
        // What an earlier ADD moved here stays.
        if source.replaces_default || others().all(|route| made(&route)) {
            or_there(netlink.add_route(&route, true))?;
        }
    }
    behind.iter().try_for_each(copy)
}

/// A route that exists is no error.
fn or_there(added: Result<()>) -> Result<()> {
    added.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// A route or rule that is gone is no error.
fn or_gone(deleted: Result<()>) -> Result<()> {
    deleted.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

fn without_rules(error: Error) -> Error {
    if error.is_not_supported() {
        return error.within(
            "this kernel has no rules of policy routing (CONFIG_IP_MULTIPLE_TABLES, CONFIG_IPV6_MULTIPLE_TABLES)"
                .into(),
        );
    }
    error
}
