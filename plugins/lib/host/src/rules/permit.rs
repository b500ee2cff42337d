//! Permits on hosts with a firewall that refuses unknown packets.
//!
//! The kernel runs all base chains of a hook, and a drop in any of them is final: an accept in a
//! chain of this suite would change nothing. So a permit goes into the firewall's chain, at its
//! head, and only if that chain is closed: its policy is to drop, or it ends with a rule that
//! refuses everything. A rule that refuses specific packets is deliberate, and does not make a
//! chain closed.
//!
//! The comment of its rules is the network's label. For legacy tables see [`crate::iptables`].

use nft::{Batch, Chain, ChainInfo, Expr, Family, Hook, Nft, Rule, RuleInfo, Table, Verdict, same};
use sys::Result;

use super::TABLE;
use crate::chain_end::{Earlier, Step, end};

/// The rules of one network in closed chains of a hook.
pub(super) struct Permission<'a> {
    pub hook: Hook,
    pub label: &'a str,
    /// The rules in this chain.
    pub rules: &'a dyn Fn(&Chain<'_>) -> Vec<Rule>,
    pub earlier: Earlier,
}

impl Permission<'_> {
    /// Adds to `batch` what each closed chain lacks. Call it inside [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub(super) fn add(&self, nft: &Nft, batch: &mut Batch) -> Result<()> {
        for (chain, family) in closed(nft, self.hook)? {
            let chain = named(&chain, family);
            let wanted = (self.rules)(&chain);
            let ours = ours(nft, &chain, self.label)?;
            match self.earlier {
                Earlier::Keep => {
                    let missing = wanted.iter().rev().filter(|rule| !has(&ours, rule));
                    missing.for_each(|rule| batch.insert_rule(&chain, rule));
                }
                Earlier::Replace if !is_whole(&ours, &wanted) => {
                    ours.iter().for_each(|rule| batch.del_rule(&chain, rule.handle));
                    wanted.iter().rev().for_each(|rule| batch.insert_rule(&chain, rule));
                }
                Earlier::Replace => {}
            }
        }
        Ok(())
    }

    /// The closed chains that lack some of it.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub(super) fn lacking(&self, nft: &Nft) -> Result<Vec<String>> {
        let mut lacking = Vec::new();
        for (chain, family) in closed(nft, self.hook)? {
            let chain = named(&chain, family);
            let wanted = (self.rules)(&chain);
            let ours = ours(nft, &chain, self.label)?;
            let is_there = match self.earlier {
                Earlier::Keep => wanted.iter().all(|rule| has(&ours, rule)),
                Earlier::Replace => is_whole(&ours, &wanted),
            };
            if !is_there {
                lacking.push(chain.to_string());
            }
        }
        Ok(lacking)
    }
}

/// Adds to `batch` the deletion of a network's rules in the chains of a hook. Call it inside
/// [`Nft::transact`].
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn delete(nft: &Nft, batch: &mut Batch, hook: Hook, label: &str) -> Result<()> {
    for (chain, family) in foreign(nft, hook)? {
        let chain = named(&chain, family);
        ours(nft, &chain, label)?.iter().for_each(|rule| batch.del_rule(&chain, rule.handle));
    }
    Ok(())
}

fn named(chain: &ChainInfo, family: Family) -> Chain<'_> {
    Chain { table: Table { family, name: &chain.table }, name: &chain.name }
}

fn ours(nft: &Nft, chain: &Chain<'_>, label: &str) -> Result<Vec<RuleInfo>> {
    let mut rules = nft.rules(chain)?;
    rules.retain(|rule| rule.comment.as_deref() == Some(label));
    Ok(rules)
}

fn has(ours: &[RuleInfo], wanted: &Rule) -> bool {
    ours.iter().any(|rule| same(&rule.exprs, wanted.exprs()))
}

fn is_whole(ours: &[RuleInfo], wanted: &[Rule]) -> bool {
    ours.len() == wanted.len() && wanted.iter().all(|wanted| has(ours, wanted))
}

/// Base chains of others that filter at this hook. Families without a table of others are not
/// listed: a listing has all chains of this suite, which grow with the number of networks.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn foreign(nft: &Nft, hook: Hook) -> Result<Vec<(ChainInfo, Family)>> {
    let tables = nft.tables()?;
    let is_ours = |family: Family, name: &str| family == TABLE.family && name == TABLE.name;
    let mut foreign = Vec::new();
    for family in [Family::Inet, Family::Ip, Family::Ip6] {
        if !tables.iter().any(|table| table.family == Some(family) && !is_ours(family, &table.name)) {
            continue;
        }
        let chains = nft.base_chains(family)?.into_iter();
        let chains = chains.filter(|chain| !is_ours(family, &chain.table) && chain.is_filter(hook));
        foreign.extend(chains.map(|chain| (chain, family)));
    }
    Ok(foreign)
}

/// Those of them that refuse unknown packets.
fn closed(nft: &Nft, hook: Hook) -> Result<Vec<(ChainInfo, Family)>> {
    let mut closed = Vec::new();
    for (chain, family) in foreign(nft, hook)? {
        let steps = |name: &str| {
            let chain = Chain { name, ..named(&chain, family) };
            let rules = nft.rules(&chain)?;
            Ok(rules.iter().filter_map(|rule| step(&rule.exprs)).collect())
        };
        if end(&chain.name, &steps)?.unwrap_or(chain.drops()) {
            closed.push((chain, family));
        }
    }
    Ok(closed)
}

/// What a rule does with every packet; `None` when it has a condition, or does nothing.
pub(super) fn step(exprs: &[Expr]) -> Option<Step> {
    let counts = |expr: &&Expr| match expr {
        Expr::Counter => true,
        Expr::Other(name) => name == "log",
        _ => false,
    };
    let mut rest = exprs.iter().skip_while(counts);
    let last = rest.next().filter(|_| rest.next().is_none())?;
    Some(match last {
        Expr::Verdict(Verdict::Accept) => Step::Accept,
        Expr::Verdict(Verdict::Drop) => Step::Refuse,
        Expr::Verdict(Verdict::Return) => Step::Return,
        Expr::Verdict(Verdict::Jump(chain)) => Step::Jump(chain.clone()),
        Expr::Verdict(Verdict::Goto(chain)) => Step::Goto(chain.clone()),
        Expr::Other(name) if name == "reject" || name == "target REJECT" => Step::Refuse,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_without_a_condition_count() {
        let drop = Expr::Verdict(Verdict::Drop);
        assert_eq!(step(&[Expr::Counter, drop.clone()]), Some(Step::Refuse));
        assert_eq!(step(&[Expr::Counter, Expr::Other("target REJECT".into())]), Some(Step::Refuse));
        assert_eq!(step(&[Expr::Other("target LOG".into())]), None);
        assert_eq!(step(&[Expr::Other("limit".into()), drop]), None);
    }
}
