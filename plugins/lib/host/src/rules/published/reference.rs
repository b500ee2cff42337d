//! What the reference's portmap (containernetworking/plugins) left in nf_tables, deleted when the container goes:
//! executables are swapped under running containers. It is found as it finds it (contract: portmap.md 6.5, 7.6).
//!
//! Rules of iptables, ours too, are seen where iptables makes them in nf_tables (iptables-nft); for tables of the older
//! kind see [`crate::iptables::withdraw_from_old_tables`].
//! The chains and tables that containers share stay: an older plugin may still use them.

use super::super::led_to;
use crate::iptables::{SUMMARY, old_ports_chain, ports_chain};
use crate::nft::{Batch, Chain, Expr, Family, Nft, RuleInfo, Table};
use crate::{Owner, Result};

/// Its nftables back end, whose rules' comments are the container's id.
const CHAINS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];
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
        nat.iter().try_for_each(|table| delete_nat(nft, batch, *table, &chains_of(owner)))
    })
}

/// The names that a container's chains of iptables may have.
pub fn chains_of(owner: &Owner) -> [String; 2] {
    [ports_chain, old_ports_chain].map(|name| name(&owner.network, &owner.container_id))
}

/// Has `batch` delete containers' chains of iptables, where iptables makes them in nf_tables.
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
