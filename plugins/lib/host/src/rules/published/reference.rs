//! Deletes what the reference's portmap (containernetworking/plugins) left in nf_tables when its
//! container is removed: executables are replaced under running containers. Finds it as the
//! reference does (PM-5).
//!
//! Rules of iptables, also those of this suite, are visible here if iptables makes them in
//! nf_tables (iptables-nft); for legacy tables see [`crate::iptables::withdraw_from_old_tables`].
//! The chains and tables that containers share stay: an older plugin may still use them.

use nft::{Batch, Chain, Element, Expr, Family, Nft, RuleInfo, Table};
use sys::Result;

use super::super::led_to;
use super::elements::{self, attachment};
use super::layout::PUBLISHERS;
use crate::Owner;
use crate::iptables::{SUMMARY, old_ports_chain, ports_chain};

/// Chains of its nftables back end; the comment of a rule is the container's id.
pub(super) const CHAINS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];
/// Deletes what the reference's portmap made for a container.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn withdraw_of_reference(nft: &Nft, owner: &Owner) -> Result<()> {
    let tables = nft.tables()?;
    let is_here = |table: &Table<'_>| {
        tables.iter().any(|here| here.family == Some(table.family) && here.name == table.name)
    };
    let of = |name| [Family::Ip, Family::Ip6].map(|family| Table { family, name });
    let rules: Vec<_> = of("cni_hostport").into_iter().filter(is_here).collect();
    let nat: Vec<_> = of("nat").into_iter().filter(is_here).collect();
    if rules.is_empty() && nat.is_empty() {
        return Ok(());
    }
    nft.transact(|nft, batch| {
        for chain in rules.iter().flat_map(|&table| CHAINS.map(|name| Chain { table, name })) {
            for rule in nft.rules(&chain)? {
                if rule.comment.as_deref() == Some(&owner.container_id) {
                    batch.del_rule(&chain, rule.handle);
                }
            }
        }
        nat.iter().try_for_each(|table| delete_nat(nft, batch, *table, &unused(nft, &nat, owner)?))
    })
}

/// A container's chains of iptables that exist and that no other interface of it uses.
fn unused(nft: &Nft, tables: &[Table<'_>], owner: &Owner) -> Result<Vec<String>> {
    let mut unused = Vec::new();
    for name in chains_of(owner) {
        let mut is_there = false;
        for &table in tables {
            is_there |= nft.chain(&Chain { table, name: &name })?.is_some();
        }
        if is_there && !is_in_use(nft, owner, &name)? {
            unused.push(name);
        }
    }
    Ok(unused)
}

/// Whether another attachment publishes its ports by this chain of iptables.
///
/// # Errors
/// The kernel could not be asked.
pub fn is_in_use(nft: &Nft, owner: &Owner, chain: &str) -> Result<bool> {
    let label = owner.label();
    let publishers = nft.elements(&PUBLISHERS)?;
    let mut comments = publishers.iter().filter_map(|publisher| publisher.comment.as_deref());
    Ok(comments.any(|of| elements::chain(of) == Some(chain) && attachment(of) != attachment(&label)))
}

/// The chain of iptables for an attachment's ports: the reference's for the network and the
/// container, or another one if a second interface of the container on that network has it.
///
/// # Errors
/// The kernel could not be asked.
pub fn chain_of(nft: &Nft, owner: &Owner) -> Result<String> {
    let label = owner.label();
    let own = nft.element(&PUBLISHERS, &Element::new(elements::publisher_key(attachment(&label))))?;
    if let Some(comment) = own.and_then(|own| own.comment)
        && comment.split(' ').next() == Some(&label)
        && let Some(chain) = elements::chain(&comment)
    {
        return Ok(chain.to_owned());
    }
    let chain = ports_chain(&owner.network, &owner.container_id);
    Ok(match is_in_use(nft, owner, &chain)? {
        true => ports_chain(&owner.network, &format!("{}/{}", owner.container_id, owner.ifname)),
        false => chain,
    })
}

/// The possible names of a container's chains of iptables.
pub fn chains_of(owner: &Owner) -> [String; 2] {
    [ports_chain, old_ports_chain].map(|name| name(&owner.network, &owner.container_id))
}

/// Adds to `batch` the deletion of containers' chains of iptables, if iptables makes them in
/// nf_tables.
pub(super) fn delete_chains(nft: &Nft, batch: &mut Batch, chains: &[String]) -> Result<()> {
    let tables = [Family::Ip, Family::Ip6].map(|family| Table { family, name: "nat" });
    tables.iter().try_for_each(|table| delete_nat(nft, batch, *table, chains))
}

fn delete_nat(nft: &Nft, batch: &mut Batch, table: Table<'_>, chains: &[String]) -> Result<()> {
    for name in chains {
        let chain = Chain { table, name };
        if nft.chain(&chain)?.is_none() {
            continue;
        }
        let summary = Chain { table, name: SUMMARY };
        for rule in nft.rules(&summary)?.iter().filter(|rule| jumps_to(rule, name)) {
            batch.del_rule(&summary, rule.handle);
        }
        batch.flush_chain(&chain);
        batch.del_chain(&chain);
    }
    Ok(())
}

fn jumps_to(rule: &RuleInfo, chain: &str) -> bool {
    rule.exprs.iter().any(|expr| matches!(expr, Expr::Verdict(verdict) if led_to(verdict) == Some(chain)))
}
