//! Masquerade: the reference's chain of a container (BR-I1).
//!
//! A chain is shared by a container's interfaces on one network, so its rules are added one by one,
//! and it is deleted with the last address that leads to it. Rules for addresses inside precede the
//! masquerade, even if the container has two addresses of one family, which the reference gets
//! wrong.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sys::{IpFamily, Result};

use super::names::{masquerade_chain, masquerade_comment};
use super::state::State;
use super::{Rules, add_all, delete_all, push, quoted, single, verify_all};
use crate::{Drift, Owner};

const POSTROUTING: &str = "POSTROUTING";

/// The masquerade of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeChain {
    /// Its owner.
    pub owner: Owner,
    /// The container's addresses with prefix lengths: inside these networks it is not masqueraded.
    pub addresses: Vec<IpNetwork>,
}

impl MasqueradeChain {
    /// Adds the rules of both families, or none.
    ///
    /// # Errors
    /// A program is missing, did not end in time, or refused.
    pub fn add(&self) -> Result<()> {
        add_all(&self.families())
    }

    /// Deletes them.
    ///
    /// # Errors
    /// As [`MasqueradeChain::add`]; both families are tried.
    pub fn delete(&self) -> Result<()> {
        delete_all(&self.families())
    }

    /// Lists every difference between these rules and the tables.
    ///
    /// # Errors
    /// A program could not be asked.
    pub fn verify(&self) -> Result<Vec<Drift>> {
        verify_all(&self.families())
    }

    /// Its chain, and the addresses that lead to it.
    pub(crate) fn known(&self) -> (String, Vec<IpAddr>) {
        let chain = masquerade_chain(&self.owner.network, &self.owner.container_id);
        (chain, self.addresses.iter().map(IpNetwork::ip).collect())
    }

    fn families(&self) -> Vec<OfFamily> {
        let of = |family| {
            let addresses: Vec<_> =
                self.addresses.iter().copied().filter(|net| IpFamily::of(net.ip()) == family).collect();
            (!addresses.is_empty()).then(|| OfFamily {
                family,
                chain: masquerade_chain(&self.owner.network, &self.owner.container_id),
                comment: quoted(&masquerade_comment(&self.owner.network, &self.owner.container_id)),
                addresses,
            })
        };
        IpFamily::BOTH.into_iter().filter_map(of).collect()
    }
}

struct OfFamily {
    family: IpFamily,
    chain: String,
    comment: String,
    addresses: Vec<IpNetwork>,
}

impl OfFamily {
    fn inside(&self) -> Vec<String> {
        let Self { chain, comment, .. } = self;
        let rule = |net: &IpNetwork| {
            let (network, length) = (net.network(), net.prefix());
            format!("{chain} -d {network}/{length} -m comment --comment {comment} -j ACCEPT")
        };
        let mut rules: Vec<String> = self.addresses.iter().map(rule).collect();
        rules.sort();
        rules.dedup();
        rules
    }

    fn masquerade(&self) -> String {
        let multicast = self.family.choose("224.0.0.0/4", "ff00::/8");
        format!("{} ! -d {multicast} -m comment --comment {} -j MASQUERADE", self.chain, self.comment)
    }

    fn jumps(&self) -> Vec<String> {
        let Self { chain, comment, .. } = self;
        let rule = |net: &IpNetwork| {
            format!("{POSTROUTING} -s {} -m comment --comment {comment} -j {chain}", single(net.ip()))
        };
        self.addresses.iter().map(rule).collect()
    }
}

impl Rules for OfFamily {
    fn family(&self) -> IpFamily {
        self.family
    }

    fn add(&self, state: &State) -> String {
        let mut lines = String::new();
        if !state.has_chain(&self.chain) {
            push(&mut lines, "-N", &self.chain);
        }
        let last = self.masquerade();
        let has_last = state.has_rule(&last);
        for rule in self.inside().into_iter().filter(|rule| !state.has_rule(rule)) {
            match rule.split_once(' ') {
                Some((chain, rule)) if has_last => push(&mut lines, "-I", &format!("{chain} 1 {rule}")),
                _ => push(&mut lines, "-A", &rule),
            }
        }
        if !has_last {
            push(&mut lines, "-A", &last);
        }
        for rule in self.jumps().into_iter().filter(|rule| !state.has_rule(rule)) {
            push(&mut lines, "-A", &rule);
        }
        lines
    }

    fn wanted(&self, _: &State) -> (Vec<String>, Vec<Drift>) {
        let mut rules = self.inside();
        rules.push(self.masquerade());
        rules.append(&mut self.jumps());
        (rules, Vec::new())
    }

    fn delete(&self, state: &State) -> String {
        let addresses: Vec<IpAddr> = self.addresses.iter().map(IpNetwork::ip).collect();
        delete(state, &self.chain, &addresses)
    }
}

/// The lines that delete the jumps from these addresses (from all, if none are known) to a
/// container's chain, and the chain when no jump is left.
pub(super) fn delete(state: &State, chain: &str, addresses: &[IpAddr]) -> String {
    let mut lines = String::new();
    if !state.has_chain(chain) {
        return lines;
    }
    let from = |rule: &str| {
        let source = rule.split(' ').skip_while(|word| *word != "-s").nth(1).unwrap_or_default();
        let ip = source.split('/').next().unwrap_or_default();
        addresses.is_empty() || ip.parse().is_ok_and(|ip: IpAddr| addresses.contains(&ip))
    };
    let (going, staying): (Vec<&str>, Vec<&str>) =
        state.jumps(POSTROUTING, chain).partition(|rule| from(rule));
    for rule in going {
        push(&mut lines, "-D", rule);
    }
    if staying.is_empty() {
        push(&mut lines, "-F", chain);
        push(&mut lines, "-X", chain);
    }
    lines
}
