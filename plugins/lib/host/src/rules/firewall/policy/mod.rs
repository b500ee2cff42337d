//! Which connections between a network and others may begin.
//!
//! ```text
//! map policy-ingress   { type ifname : verdict;
//!                        elements = { "br0" comment "moor/net" : jump policy-ingress-0123… } }
//! set network-89ab…    { type ifname; elements = { "br1" comment "moor/front" } }
//! chain policy-ingress-0123… { iifname @network-4567… return
//!                              iifname @network-89ab… meta l4proto tcp th dport 80 accept
//!                              limit rate 1/second burst 10 packets log prefix "…"; drop }
//! ```
//!
//! Two maps lead to the two chains of a network, so what a packet costs does not depend on the
//! number of networks. What a rule calls by a network's name is a set of links. It exists as long
//! as a policy names it, and has the links of all attachments of that network (`behind`), also of
//! those that come later. Chains and sets are named by a hash of the network's label.

mod change;
mod rules;

use std::collections::BTreeSet;

use nft::{Chain, Data, Element, Nft, Rule, Set, Value, Verdict};
use sys::Result;

use super::layout::{EGRESS, INGRESS};
use crate::owner::hash;
use crate::rules::{Filled, TABLE};
use crate::{Attached, Drift, Owner, Policy, PolicyRule};

pub(super) use change::{add, chains_there, is_named, sets_there, withdraw};

/// The prefix of the names of sets of links.
const LINKS: &str = "network-";

/// One of the two lists of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn map(self) -> Set<'static> {
        match self {
            Self::Ingress => INGRESS,
            Self::Egress => EGRESS,
        }
    }

    fn rules(self, policy: &Policy) -> &[PolicyRule] {
        match self {
            Self::Ingress => &policy.ingress,
            Self::Egress => &policy.egress,
        }
    }

    fn chain_name(self, label: &str) -> String {
        format!("{}-{:016x}", self.map().name, hash(label))
    }

    /// The element that leads packets of a link to its network's chain.
    fn lead(self, label: &str, link: &str) -> Element {
        let lead = Verdict::Jump(self.chain_name(label));
        Element::new(Value::new().ifname(link)).to(lead).comment(label)
    }
}

/// The policy of a network as chains and sets. Networks are named by their labels.
pub(super) struct Policed {
    label: String,
    chains: Vec<PolicyChain>,
    sets: Vec<Named>,
}

struct PolicyChain {
    direction: Direction,
    name: String,
    rules: Vec<Rule>,
}

/// The set of a network's links.
struct Named {
    label: String,
    name: String,
}

impl Named {
    fn of(label: String) -> Self {
        Self { name: format!("{LINKS}{:016x}", hash(&label)), label }
    }

    fn set(&self) -> Set<'_> {
        links(&self.name)
    }

    fn element(&self, link: &str) -> Element {
        Element::new(Value::new().ifname(link)).comment(&self.label)
    }
}

/// The set of links of this name.
pub(super) fn links(name: &str) -> Set<'_> {
    Set { name, data: Data::None, ..INGRESS }
}

/// The chain of this name.
pub(super) fn chain(name: &str) -> Chain<'_> {
    Chain { table: TABLE, name }
}

impl Policed {
    /// `None` without rules.
    fn of(policy: &Policy, network: &str) -> Option<Self> {
        let label = Owner::network_label(network);
        let mut chains = Vec::new();
        for direction in Direction::BOTH {
            if !direction.rules(policy).is_empty() {
                let rules = rules::of(direction, policy, network);
                chains.push(PolicyChain { direction, name: direction.chain_name(&label), rules });
            }
        }
        let mut networks = policy.networks();
        networks.insert(network);
        let sets = networks.into_iter().map(|network| Named::of(Owner::network_label(network))).collect();
        (!chains.is_empty()).then_some(Self { label, chains, sets })
    }

    /// Those of recorded attachments, the latest first: it decides for its network.
    pub(super) fn of_all(all: &[(&Attached, &Owner)]) -> Vec<Self> {
        let mut seen = BTreeSet::new();
        let linked = all.iter().filter(|(attached, _)| attached.link.is_some());
        let latest = linked.filter(|(_, owner)| seen.insert(&owner.network));
        latest.filter_map(|(attached, owner)| Self::of(&attached.policy, &owner.network)).collect()
    }

    pub(super) fn chains(&self) -> impl Iterator<Item = Filled<'_>> {
        self.chains.iter().map(|of| Filled {
            chain: chain(&of.name),
            base: None,
            comment: &self.label,
            rules: of.rules.clone(),
        })
    }

    /// Its sets, with their comments.
    pub(super) fn sets(&self) -> impl Iterator<Item = (Set<'_>, &str)> {
        self.sets.iter().map(|named| (named.set(), &*named.label))
    }

    /// The elements that lead packets of a link to the chains.
    fn leads(&self, link: &str) -> Vec<(Set<'static>, Element)> {
        self.chains.iter().map(|of| (of.direction.map(), of.direction.lead(&self.label, link))).collect()
    }
}

/// The elements of all attachments, the latest first, in the maps and sets of these policies.
pub(super) fn elements<'a>(policies: &'a [Policed], all: &[(&Attached, &Owner)]) -> Vec<(Set<'a>, Element)> {
    let mut elements = Vec::new();
    let mut led = BTreeSet::new();
    for (attached, owner) in all {
        let Some(link) = attached.link.as_deref() else { continue };
        let label = Owner::network_label(&owner.network);
        for policed in policies {
            let named = policed.sets.iter().filter(|named| named.label == label);
            elements.extend(named.map(|named| (named.set(), named.element(link))));
            if policed.label == label {
                let leads = policed.leads(link).into_iter();
                // Of two networks on a bridge, the later one decides.
                elements.extend(leads.filter(|(map, _)| led.insert((map.name, link))));
            }
        }
    }
    elements
}

/// The differences from what [`add`] made.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn drifts(attached: &Attached, owner: &Owner, nft: &Nft) -> Result<Vec<Drift>> {
    let Some(link) = attached.link.as_deref() else { return Ok(Vec::new()) };
    let mut drifts = Vec::new();
    let policed = Policed::of(&attached.policy, &owner.network);
    for filled in policed.iter().flat_map(Policed::chains) {
        drifts.append(&mut filled.drifts(nft)?);
    }
    let own = Named::of(Owner::network_label(&owner.network));
    if policed.is_none() && nft.set_is(&own.set())?.is_none() {
        return Ok(drifts);
    }
    let mut wanted = policed.as_ref().map(|policed| policed.leads(link)).unwrap_or_default();
    wanted.push((own.set(), own.element(link)));
    for (set, element) in wanted {
        let what = format!("element {} of {set}", element.show(&set));
        match nft.element(&set, &element)? {
            Some(there) if there == element => {}
            Some(there) => {
                let actual = there.comment.unwrap_or_else(|| "nobody's".into());
                drifts.push(Drift::new(what, &own.label, actual));
            }
            None => drifts.push(Drift::new(what, "present", "absent")),
        }
    }
    for direction in Direction::BOTH.into_iter().filter(|one| one.rules(&attached.policy).is_empty()) {
        let lead = direction.lead(&own.label, link);
        if nft.element(&direction.map(), &lead)?.is_some_and(|there| there.comment == lead.comment) {
            let what = format!("element {} of {}", lead.show(&direction.map()), direction.map());
            drifts.push(Drift::new(what, "absent", "present"));
        }
    }
    Ok(drifts)
}
