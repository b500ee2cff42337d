//! Removing routes by source, without a plan: what an attachment has, in whatever state.

use netlink::{Netlink, PolicyRule, Route, WholeRoute};
use sys::Result;

use super::or_gone;
use crate::piece::host_routes::PROTOCOL;
use crate::piece::tables;

/// The protocol of the reference's rules (RTPROT_UNSPEC, linux/rtnetlink.h).
const BY_REFERENCE: u8 = 0;

/// The table of an attachment's rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// One for each address.
    Own,
    /// An administrator's, in which nothing is changed.
    Configured(u32),
}

/// DEL: removes the rules of a link's addresses, and ours of addresses that no link has any more;
/// what their tables have of the link goes back to the main table. Rules of others, and tables that
/// other links use, stay.
///
/// # Errors
/// The kernel could not be asked, or refused; everything that can be removed is.
pub fn remove_source_routing(sandbox: &Netlink, ifname: &str, table: Table) -> Result<()> {
    let rules = match sandbox.rules() {
        Err(error) if error.is_not_supported() => return Ok(()),
        rules => rules?,
    };
    let is_ours = |rule: &&PolicyRule| {
        rule.is_plain && rule.is_for_one_address() && [PROTOCOL, BY_REFERENCE].contains(&rule.protocol)
    };
    if !rules.iter().any(|rule| is_ours(&rule)) {
        return Ok(());
    }
    let index = sandbox.link_by_name(ifname)?.map(|link| link.index);
    let addresses = sandbox.addresses(None)?;
    let routes = sandbox.whole_routes(None)?;
    let mut outcome = Ok(());
    if let Some(index) = index {
        let made = |route: &&WholeRoute| {
            let first = route.first();
            first.table == Route::MAIN_TABLE && first.protocol == PROTOCOL && route.is_only_through(index)
        };
        for hint in routes.iter().filter(made) {
            outcome = outcome.and(or_gone(sandbox.delete_whole_route(hint)));
        }
    }
    for rule in rules.iter().filter(is_ours) {
        let holds = |of: Option<u32>| {
            let has = |ip| addresses.iter().any(|a| a.net.ip() == ip && of.is_none_or(|of| a.index == of));
            has(rule.source.ip())
        };
        let is_of_link = index.is_some() && holds(index);
        let is_dead = rule.protocol == PROTOCOL && !holds(None);
        let is_configured = table == Table::Configured(rule.table);
        if rule.protocol == BY_REFERENCE && !is_of_reference(rule, &rules, &routes, is_configured) {
            continue;
        }
        let others = |route: &WholeRoute| {
            route.first().table == rule.table && !index.is_some_and(|index| route.is_only_through(index))
        };
        if !is_of_link && !is_dead || !is_configured && routes.iter().any(others) {
            continue;
        }
        let sharing = rules.iter().filter(|other| other.table == rule.table).count();
        let back = match index {
            Some(index) if !is_configured && !tables::is_reserved(rule.table) && sharing == 1 => {
                put_back(sandbox, rule, index, &routes)
            }
            _ => Ok(()),
        };
        // The rule leads the next DEL to what is left.
        outcome = outcome.and(back.and_then(|()| or_gone(sandbox.delete_rule(rule))));
    }
    outcome
}

/// Whether the reference made a rule, whose rules look like an administrator's: the attachment has
/// no rule of ours, and the table has routes.
fn is_of_reference(
    rule: &PolicyRule,
    rules: &[PolicyRule],
    routes: &[WholeRoute],
    is_configured: bool,
) -> bool {
    let ours = |other: &PolicyRule| other.source == rule.source && other.protocol == PROTOCOL;
    let is_filled = || routes.iter().any(|route| route.first().table == rule.table);
    !rules.iter().any(ours) && (is_configured || is_filled())
}

/// Moves what a rule's table has of the link to the main table; routes that were made for the table
/// vanish.
fn put_back(sandbox: &Netlink, rule: &PolicyRule, index: u32, all: &[WholeRoute]) -> Result<()> {
    let of_table = |route: &&WholeRoute| route.first().table == rule.table && route.is_only_through(index);
    let mut routes: Vec<&WholeRoute> = all.iter().filter(of_table).collect();
    routes.sort_by_key(|route| route.has_gateway());
    let is_moved = |route: &WholeRoute| rule.protocol == PROTOCOL && route.first().protocol != PROTOCOL;
    for route in routes.iter().filter(|route| is_moved(route) && !all.iter().any(|it| has_hops_of(it, route)))
    {
        unless_impossible(sandbox.append_route(&route.in_table(Route::MAIN_TABLE)))?;
    }
    routes.iter().try_for_each(|route| or_gone(sandbox.delete_whole_route(route)))
}

/// A route that is there already, as part of another source's table, is no reason to fail, nor one
/// that the link can no longer have.
fn unless_impossible(added: Result<()>) -> Result<()> {
    const IMPOSSIBLE: [i32; 5] =
        [libc::EINVAL, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ENETDOWN, libc::ENODEV];
    added.or_else(|error| match error.errno() {
        Some(errno) if error.is_exists() || IMPOSSIBLE.contains(&errno) => Ok(()),
        _ => Err(error),
    })
}

/// Whether a route of the main table, by several links, has the next hops of this copy.
fn has_hops_of(main: &WholeRoute, copy: &WholeRoute) -> bool {
    let (first, other) = (main.first(), copy.first());
    let hops =
        |route: &WholeRoute| -> Vec<_> { route.hops().iter().map(|hop| (hop.index, hop.gateway)).collect() };
    first.table == Route::MAIN_TABLE
        && (first.dst, first.priority) == (other.dst, other.priority)
        && main.hops().len() > copy.hops().len()
        && hops(copy).iter().all(|hop| hops(main).contains(hop))
}

/// Undoes a rule of a failed ADD, and with `filled` the routes of that link in its table.
pub(in crate::piece) fn withdraw(sandbox: &Netlink, rule: &PolicyRule, filled: Option<u32>) -> Result<()> {
    if let Some(index) = filled {
        let in_table = |route: &&WholeRoute| route.first().table == rule.table;
        for route in sandbox.whole_routes(Some(index))?.iter().filter(in_table) {
            or_gone(sandbox.delete_whole_route(route))?;
        }
    }
    or_gone(sandbox.delete_rule(rule))
}

/// Undoes the removal of a link's routes from the main table, all or some of them: they get their
/// order back too.
pub(in crate::piece) fn return_to_main(sandbox: &Netlink, routes: &[WholeRoute]) -> Result<()> {
    for route in routes {
        or_gone(sandbox.delete_whole_route(route))?;
    }
    routes.iter().try_for_each(|route| sandbox.append_route(route))
}
