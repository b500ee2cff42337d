//! Deletes what the reference (containernetworking/plugins) left in nf_tables: executables are
//! replaced under running containers. Finds it as the reference does (BR-R5).
//!
//! Rules of iptables, also those of this suite, are visible here if iptables makes them in
//! nf_tables (iptables-nft); for legacy tables see [`iptables::unmasquerade_in_old_tables`].

mod made;

use std::collections::BTreeSet;
use std::net::IpAddr;

use nft::{Batch, Chain, Expr, Family, Nft, RuleInfo, Table, TableInfo, Value};
use sys::Result;

use super::attachment::is_in;
use super::led_to;
use crate::{Owner, Removal, iptables};

pub use made::{guards, masquerades, networks};

/// Its nftables back end for masquerade.
const MASQUERADE: Table<'static> = Table { family: Family::Inet, name: "cni_plugins_masquerade" };
const MASQ_CHECKS: Chain<'static> = Chain { table: MASQUERADE, name: "masq_checks" };
/// Its iptables back end.
const NAT4: Table<'static> = Table { family: Family::Ip, name: "nat" };
const NAT6: Table<'static> = Table { family: Family::Ip6, name: "nat" };
/// Its MAC filter.
const FRAMES: Table<'static> = Table { family: Family::Bridge, name: "nat" };
const PORTS: Chain<'static> = Chain { table: FRAMES, name: "PREROUTING" };

/// Deletes an attachment's rules and chains of iptables. Interfaces of a container on one network
/// share a chain; the addresses that lead there, if known, distinguish them.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(super) fn delete(
    nft: &Nft,
    tables: &[TableInfo],
    removal: &Removal,
    chains: &[(String, Vec<IpAddr>)],
) -> Result<()> {
    let here = |table: &Table<'_>| is_in(tables, table);
    if ![MASQUERADE, NAT4, NAT6, FRAMES].iter().any(here) {
        return Ok(());
    }
    let owner = removal.owner();
    let attachment = attachment_hash(owner);
    let network = hash::<16>(&[&owner.network]);
    nft.transact(|nft, batch| {
        if here(&MASQUERADE) {
            let mut takes_others = Ok(false);
            delete_masquerade(nft, batch, |of| {
                of.attachment == attachment
                    && (of.network == network || {
                        takes_others = takes_nameless(removal);
                        matches!(takes_others, Ok(true))
                    })
            })?;
            takes_others?;
        }
        for table in [NAT4, NAT6].into_iter().filter(here) {
            delete_nat(nft, batch, table, chains)?;
        }
        if here(&FRAMES) {
            delete_mac_filter(nft, batch, removal)?;
        }
        Ok(())
    })
}

/// Whether a removal takes rules that name no known network. It does, unless the container has an
/// interface of unknown origin there, which may belong to another network.
fn takes_nameless(removal: &Removal) -> Result<bool> {
    removal.takes(&Owner { network: String::new(), ..removal.owner().clone() }.label())
}

/// Deletes the rules of a network's attachments except `valid`, as the nftables back end identifies
/// them, and these chains of iptables.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(super) fn delete_but(
    nft: &Nft,
    tables: &[TableInfo],
    network: &str,
    valid: &[Owner],
    chains: &[(String, Vec<IpAddr>)],
) -> Result<()> {
    let here = |table: &Table<'_>| is_in(tables, table);
    if ![MASQUERADE, NAT4, NAT6].iter().any(here) {
        return Ok(());
    }
    let network = hash::<16>(&[network]);
    let valid: Vec<String> = valid.iter().map(attachment_hash).collect();
    nft.transact(|nft, batch| {
        if here(&MASQUERADE) {
            delete_masquerade(nft, batch, |of| {
                of.network == network && !valid.iter().any(|valid| valid == of.attachment)
            })?;
        }
        [NAT4, NAT6].into_iter().filter(here).try_for_each(|table| delete_nat(nft, batch, table, chains))
    })
}

/// Its comments begin with `<hash of the network>-<hash of interface and container>, net: …`.
struct Hashes<'a> {
    network: &'a str,
    attachment: &'a str,
}

impl<'a> Hashes<'a> {
    fn of(comment: &'a str) -> Option<Self> {
        let (network, rest) = comment.split_once('-')?;
        Some(Self { network, attachment: rest.get(..16)? })
    }
}

fn attachment_hash(owner: &Owner) -> String {
    hash::<16>(&[&owner.ifname, ":", &owner.container_id])
}

fn delete_masquerade(
    nft: &Nft,
    batch: &mut Batch,
    mut is_ours: impl FnMut(&Hashes<'_>) -> bool,
) -> Result<()> {
    for rule in nft.rules(&MASQ_CHECKS)? {
        if rule.comment.as_deref().and_then(Hashes::of).is_some_and(|of| is_ours(&of)) {
            batch.del_rule(&MASQ_CHECKS, rule.handle);
        }
    }
    Ok(())
}

/// Deletes `POSTROUTING -s <address> -j CNI-<hash>`, and those of the chains that nothing leads to
/// any more. A chain may be listed more than once, with different addresses.
fn delete_nat(
    nft: &Nft,
    batch: &mut Batch,
    table: Table<'_>,
    chains: &[(String, Vec<IpAddr>)],
) -> Result<()> {
    let postrouting = Chain { table, name: "POSTROUTING" };
    let names: BTreeSet<&String> = chains.iter().map(|(name, _)| name).collect();
    for name in names {
        let chain = Chain { table, name };
        if nft.chain(&chain)?.is_none() {
            continue;
        }
        let of = |rule: &RuleInfo| {
            let mut addresses =
                chains.iter().filter(|(other, _)| other == name).map(|(_, addresses)| addresses);
            addresses.any(|of| of.is_empty() || of.iter().any(|address| compares_to(rule, *address)))
        };
        let mut shared = false;
        for rule in nft.rules(&postrouting)?.iter().filter(|rule| jumps_to(rule, name)) {
            match of(rule) {
                true => batch.del_rule(&postrouting, rule.handle),
                false => shared = true,
            }
        }
        if !shared {
            batch.del_chain(&chain);
        }
    }
    Ok(())
}

fn delete_mac_filter(nft: &Nft, batch: &mut Batch, removal: &Removal) -> Result<()> {
    let owner = removal.owner();
    let attachment = format!("{}-{}", owner.container_id, owner.ifname);
    let comment = format!("macspoofchk-{attachment}");
    let mut rules = nft.rules(&PORTS)?;
    rules.retain(|rule| rule.comment.as_deref() == Some(&comment));
    if !rules.is_empty() && !takes_nameless(removal)? {
        return Ok(());
    }
    for rule in rules {
        batch.del_rule(&PORTS, rule.handle);
    }
    // The first leads to the second. A name that is too long for a chain has none.
    for name in [format!("cni-br-iface-{attachment}"), format!("cni-br-iface-{attachment}-mac")] {
        let chain = Chain { table: FRAMES, name: &name };
        if name.len() < CHAIN_NAME_MAX && nft.chain(&chain)?.is_some() {
            batch.del_chain(&chain);
        }
    }
    Ok(())
}

/// NFT_CHAIN_MAXNAMELEN (linux/netfilter/nf_tables.h), with its NUL.
const CHAIN_NAME_MAX: usize = 256;

fn jumps_to(rule: &RuleInfo, chain: &str) -> bool {
    rule.exprs.iter().any(|expr| matches!(expr, Expr::Verdict(verdict) if led_to(verdict) == Some(chain)))
}

fn compares_to(rule: &RuleInfo, address: IpAddr) -> bool {
    let wanted = Value::new().addr(address);
    rule.exprs.iter().any(|expr| matches!(expr, Expr::Compare { value, .. } if *value == wanted))
}

/// The first hex digits of the SHA-512 of the concatenated texts.
fn hash<const DIGITS: usize>(texts: &[&str]) -> String {
    let mut digits = iptables::hash(texts);
    digits.truncate(DIGITS);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BR-R5: names from the reference's own executables.
    #[test]
    fn names_are_those_that_the_reference_derives() {
        assert_eq!(hash::<16>(&["mynet"]), "d23676b4f2d9fe04");
        let owner = |container_id| Owner::new("mynet", container_id, "eth0");
        assert_eq!(attachment_hash(&owner("cid1")), "0b65a318f52e521b");
        assert_eq!(attachment_hash(&owner("one")), "287fc69eff0574a2");
    }

    #[test]
    fn a_comment_names_its_network_and_its_attachment() {
        let of = Hashes::of("6fd94d501e58f0aa-287fc69eff0574a2, net: unit-test, if: eth0, id: one").unwrap();
        assert_eq!((of.network, of.attachment), ("6fd94d501e58f0aa", "287fc69eff0574a2"));
        assert!(Hashes::of("somebody's own").is_none() && Hashes::of("a-b").is_none());
    }
}
