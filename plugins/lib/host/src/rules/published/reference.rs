//! What the reference's portmap (containernetworking/plugins) left in nf_tables, deleted when the container goes:
//! executables are swapped under running containers. It is found as it finds it (contract: portmap.md 6.5, 7.6).
//!
//! Rules of iptables are seen where iptables makes them in nf_tables (iptables-nft); legacy tables are not looked at.
//! The chains and tables that containers share stay: an older plugin may still use them.

use std::fmt::Write as _;

use sha2::{Digest, Sha512};

use super::super::led_to;
use crate::nft::{Batch, Chain, Expr, Family, Nft, RuleInfo, Table};
use crate::{Owner, Result};

/// Its nftables back end, whose rules' comments are the container's id.
const CHAINS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];
/// Its iptables back end: the chain that leads to the containers', and what their names begin with.
const SUMMARY: &str = "CNI-HOSTPORT-DNAT";
const PREFIXES: [&str; 2] = ["CNI-DN-", "CNI-SN-"];
/// Of a chain's name.
const NAME_MAX: usize = 28;

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
        nat.iter().try_for_each(|table| delete_nat(nft, batch, *table, owner))
    })
}

fn delete_nat(nft: &Nft, batch: &mut Batch, table: Table<'_>, owner: &Owner) -> Result<()> {
    for prefix in PREFIXES {
        let name = chain_name(prefix, owner);
        let chain = Chain { table, name: &name };
        if nft.chain(&chain)?.is_none() {
            continue;
        }
        let summary = Chain { table, name: SUMMARY };
        for rule in nft.rules(&summary)?.iter().filter(|rule| jumps_to(rule, &name)) {
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

/// The prefix and as many hex digits of the SHA-512 of network and container as fit.
fn chain_name(prefix: &str, owner: &Owner) -> String {
    let mut hash = Sha512::new();
    hash.update(&owner.network);
    hash.update(&owner.container_id);
    let mut name = prefix.to_owned();
    for byte in hash.finalize() {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name.truncate(NAME_MAX);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// portmap.md 6.1: seen of the reference's own executable.
    #[test]
    fn names_are_those_that_the_reference_derives() {
        let name = |network: &str, container_id: &str| {
            let ifname = "eth0".into();
            let owner = Owner { network: network.into(), container_id: container_id.into(), ifname };
            chain_name("CNI-DN-", &owner)
        };
        assert_eq!(name("n", "id1"), "CNI-DN-b40d6be49a3410ab31bc2");
        assert_eq!(name("test", "icee6giejonei6so"), "CNI-DN-022110f36292712c8bb50");
    }
}
