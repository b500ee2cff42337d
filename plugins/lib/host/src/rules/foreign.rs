//! Base chains of other programs, through which the packets of containers pass too.

use std::collections::BTreeSet;

use nft::{Chain, ChainInfo, Compare, Expr, Family, Field, Meta, Nft, RuleInfo, Table, Verdict};
use sys::Result;

use super::permit::step;
use super::{TABLE, spoof};
use crate::chain_end::end;

/// How many chains are followed from one to the next.
const DEPTH: usize = 8;

/// A base chain of another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignChain {
    /// Its table's family.
    pub family: Family,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its type: `filter`, `nat`, `route`.
    pub kind: String,
    /// The number of its hook (NF_INET_*).
    pub hook: u32,
    /// Its order among the hook's chains: lower ones run first.
    pub priority: i32,
    /// Its policy is to drop.
    pub drops: bool,
    /// It refuses every packet that gets to its end: by its policy, or by its last rule.
    pub closed: bool,
    /// Links with a rule that accepts, in this chain or one that it leads to. A name that ends with
    /// `*` is a prefix.
    pub accepts: BTreeSet<(Way, String)>,
    /// Comments of its rules, and of the chains that it leads to.
    pub comments: BTreeSet<String>,
    /// The chains that it leads to.
    pub leads_to: BTreeSet<String>,
}

/// A packet's direction as a link sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// It has come in by the link.
    In,
    /// It leaves by the link.
    Out,
}

impl ForeignChain {
    /// Whether a rule of it, or of a chain that it leads to, accepts packets of this link.
    pub fn accepts(&self, way: Way, link: &str) -> bool {
        self.accepts.iter().any(|(of, name)| {
            *of == way
                && match name.strip_suffix('*') {
                    Some(prefix) => link.starts_with(prefix),
                    None => name == link,
                }
        })
    }
}

/// The base chains of other programs, in the order of hooks and priorities.
///
/// # Errors
/// The kernel could not be asked.
pub fn foreign_chains(nft: &Nft) -> Result<Vec<ForeignChain>> {
    let tables = nft.tables()?;
    let mut chains = Vec::new();
    for family in [Family::Inet, Family::Ip, Family::Ip6, Family::Bridge] {
        let is_ours =
            |name: &str| [TABLE, spoof::TABLE].iter().any(|own| own.family == family && own.name == name);
        if !tables.iter().any(|table| table.family == Some(family) && !is_ours(&table.name)) {
            continue;
        }
        for info in nft.base_chains(family)?.into_iter().filter(|info| !is_ours(&info.table)) {
            chains.extend(read(nft, family, info)?);
        }
    }
    chains.sort_by(|a, b| (a.hook, a.priority, &a.table).cmp(&(b.hook, b.priority, &b.table)));
    Ok(chains)
}

fn read(nft: &Nft, family: Family, info: ChainInfo) -> Result<Option<ForeignChain>> {
    let drops = info.drops();
    let Some((kind, hook, priority, _)) = info.base else { return Ok(None) };
    let table = Table { family, name: &info.table };
    let rules_of = |name: &str| nft.rules(&Chain { table, name });
    let steps = |name: &str| Ok(rules_of(name)?.iter().filter_map(|rule| step(&rule.exprs)).collect());
    let closed = kind == "filter" && end(&info.name, &steps)?.unwrap_or(drops);
    let mut chain = ForeignChain {
        family,
        table: info.table.clone(),
        name: info.name.clone(),
        kind,
        hook,
        priority,
        drops,
        closed,
        accepts: BTreeSet::new(),
        comments: BTreeSet::new(),
        leads_to: BTreeSet::new(),
    };
    let mut next = vec![info.name.clone()];
    for _ in 0..DEPTH {
        let mut further = Vec::new();
        for name in next {
            rules_of(&name)?.iter().for_each(|rule| chain.take(rule, &mut further));
        }
        next = further;
    }
    Ok(Some(chain))
}

impl ForeignChain {
    /// Takes in what a rule accepts, its comment, and the chain that it leads to.
    fn take(&mut self, rule: &RuleInfo, further: &mut Vec<String>) {
        self.comments.extend(rule.comment.clone());
        for expr in &rule.exprs {
            match expr {
                Expr::Verdict(Verdict::Accept) => self.accepts.extend(links(&rule.exprs)),
                Expr::Verdict(Verdict::Jump(name) | Verdict::Goto(name))
                    if self.leads_to.insert(name.clone()) =>
                {
                    further.push(name.clone());
                }
                _ => {}
            }
        }
    }
}

/// The links that a rule names, each with the packet's direction.
fn links(exprs: &[Expr]) -> Vec<(Way, String)> {
    let mut links = Vec::new();
    let mut loaded = None;
    for expr in exprs {
        match expr {
            Expr::Load { field: Field::Meta(Meta::Iifname), .. } => loaded = Some(Way::In),
            Expr::Load { field: Field::Meta(Meta::Oifname), .. } => loaded = Some(Way::Out),
            Expr::Load { .. } => loaded = None,
            Expr::Compare { op: Compare::Equal, value, .. } => {
                links.extend(loaded.take().map(|way| (way, name_of(value.bytes()))));
            }
            _ => {}
        }
    }
    links
}

/// A compared name; one without a NUL is a prefix.
fn name_of(bytes: &[u8]) -> String {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let end = if name.len() == bytes.len() { "*" } else { "" };
    format!("{}{end}", String::from_utf8_lossy(name))
}

#[cfg(test)]
mod tests {
    use nft::{Rule, Value};

    use super::*;

    #[test]
    fn a_rule_accepts_the_links_that_it_compares_with() {
        let name = |name: &str| Value::new().ifname(name);
        let rule = Rule::new().is(Field::IIFNAME, name("br0")).verdict(Verdict::Accept);
        assert_eq!(links(rule.exprs()), [(Way::In, "br0".into())]);
        assert_eq!(name_of(b"br-"), "br-*");
    }
}
