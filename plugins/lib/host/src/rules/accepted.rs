//! Addresses that chains of iptables accept ([`crate::iptables::Accepted`]): how they are recorded,
//! and deleted again. The reference's rules are the same, so its attachments are cleaned too.
//!
//! iptables usually makes its rules in nf_tables, where they are deleted over netlink.

use std::collections::HashSet;
use std::net::IpAddr;

use nft::{Chain, Expr, Family, Field, Nft, Rule, RuleInfo, Table, Value, Verdict, same};
use sys::{IpFamily, Result};

use crate::intent::{By, Record, Records};
use crate::iptables::{ACCEPTED_CHAIN, Accepted, accept_no_more_in_old_tables, accepts_in_old_tables};
use crate::{Owner, Removal};

const FILTERS: [Table<'static>; 2] =
    [Table { family: Family::Ip, name: "filter" }, Table { family: Family::Ip6, name: "filter" }];

/// Records the addresses of an attachment, and accepts them.
///
/// # Errors
/// They cannot be recorded, or a program refused; nothing is left of this call.
pub fn accept(owner: &Owner, accepted: &Accepted) -> Result<()> {
    let records = Records::open()?;
    let before = records.read(By::Accepted, owner).unwrap_or_default();
    // The addresses of an earlier ADD still have rules, which DEL must find.
    let mut addresses = before.as_ref().map(|record| record.accepted.clone()).unwrap_or_default();
    addresses.extend(&accepted.addresses);
    addresses.sort_unstable();
    addresses.dedup();
    // First: a killed program may have made the rules.
    records.write(By::Accepted, &Record { accepted: addresses, ..Record::new(owner.clone()) })?;
    accepted.add().inspect_err(|_| {
        let _ = match &before {
            Some(before) => records.write(By::Accepted, before),
            None => records.remove_own(By::Accepted, owner),
        };
    })
}

/// Deletes the rules of an attachment: of the recorded addresses, and of `known` ones, which the
/// reference may have accepted. Those of an address that another attachment has now stay. Without
/// nf_tables there is no socket.
///
/// # Errors
/// The records or the kernel could not be asked, or a program refused.
pub fn accept_no_more(nft: Option<&Nft>, removal: &Removal, known: &[IpAddr]) -> Result<()> {
    let records = Records::open_if_any()?;
    // An unreadable record is ignored.
    let own = records.as_ref().and_then(|records| records.read(By::Accepted, removal.owner()).ok().flatten());
    let mut going = known.to_vec();
    let mut taken = None;
    if let Some(own) = own
        && removal.takes(&own.owner.label())?
    {
        going.extend(own.accepted);
        taken = Some(own.owner);
    }
    let is_others = |record: &Record| taken.as_ref() != Some(&record.owner);
    delete(nft, &going, || kept(records.as_ref(), is_others))?;
    // Last: it names the addresses until their rules are gone.
    records.map_or(Ok(()), |records| records.take(By::Accepted, removal).map(drop))
}

/// The same for all attachments of a network except `valid`.
///
/// # Errors
/// As [`accept_no_more`].
pub fn accept_only(nft: Option<&Nft>, network: &str, valid: &[Owner]) -> Result<()> {
    let Some(records) = Records::open_if_any()? else { return Ok(()) };
    let owners: HashSet<Owner> = valid.iter().cloned().collect();
    let stale = records.all_but(By::Accepted, network, &owners)?;
    let going: Vec<IpAddr> = stale.iter().flat_map(|record| record.accepted.clone()).collect();
    let stays = |record: &Record| record.owner.network != network || owners.contains(&record.owner);
    delete(nft, &going, || kept(Some(&records), stays))?;
    stale.iter().try_for_each(|record| records.remove_own(By::Accepted, &record.owner))
}

/// The addresses of these attachments.
fn kept(records: Option<&Records>, stays: impl Fn(&Record) -> bool) -> Result<HashSet<IpAddr>> {
    let all = records.map_or(Ok(Vec::new()), |records| records.of(By::Accepted))?;
    Ok(all.into_iter().filter(stays).flat_map(|record| record.accepted).collect())
}

/// All records are read only on a host that has the chain.
fn delete(nft: Option<&Nft>, addresses: &[IpAddr], kept: impl Fn() -> Result<HashSet<IpAddr>>) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let chains = FILTERS.map(|table| Chain { table, name: ACCEPTED_CHAIN });
    let is_there =
        |chain: &Chain<'_>| -> Result<bool> { nft.map_or(Ok(false), |nft| Ok(nft.chain(chain)?.is_some())) };
    let [v4, v6] = [is_there(&chains[0])?, is_there(&chains[1])?];
    if !v4 && !v6 && !accepts_in_old_tables() {
        return Ok(());
    }
    let kept = kept()?;
    let mut going: Vec<IpAddr> =
        addresses.iter().copied().filter(|address| !kept.contains(address)).collect();
    // A recorded address is usually a known one too, and no rule can be deleted twice.
    going.sort_unstable();
    going.dedup();
    if let Some(nft) = nft {
        for (chain, _) in chains.iter().zip([v4, v6]).filter(|(_, is_there)| *is_there) {
            delete_in(nft, chain, &going)?;
        }
    }
    accept_no_more_in_old_tables(&going)
}

fn delete_in(nft: &Nft, chain: &Chain<'_>, addresses: &[IpAddr]) -> Result<()> {
    nft.transact(|nft, batch| {
        for rule in nft.rules(chain)? {
            if addresses.iter().any(|address| is_of(&rule, *address)) {
                batch.del_rule(chain, rule.handle);
            }
        }
        Ok(())
    })
}

/// Whether it is one of the two rules of an address, and not an administrator's about the same
/// address.
fn is_of(rule: &RuleInfo, address: IpAddr) -> bool {
    let [source, destination] = match IpFamily::of(address) {
        IpFamily::V4 => [Field::IP_SADDR, Field::IP_DADDR],
        IpFamily::V6 => [Field::IP6_SADDR, Field::IP6_DADDR],
    };
    let of = |field| Rule::new().is(field, Value::new().addr(address)).verdict(Verdict::Accept);
    let mut exprs = rule.exprs.clone();
    exprs.retain(|expr| *expr != Expr::Counter);
    if same(&exprs, of(source).exprs()) {
        return true;
    }
    // (xtables' match of a connection's state: the program has no other notation for it.)
    let is_match = |expr: &Expr| matches!(expr, Expr::Match { name, .. } if name == "conntrack");
    let matches = exprs.iter().filter(|expr| is_match(expr)).count();
    exprs.retain(|expr| !is_match(expr));
    matches == 1 && same(&exprs, of(destination).exprs())
}
