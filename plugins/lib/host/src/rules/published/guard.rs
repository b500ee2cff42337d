//! The chains with conditions. An attachment that has conditions has one of each family, and its
//! ports lead there before they lead to the container. Packets to other attachments never enter it.

use nft::{Batch, Chain, Nft, Rule};
use sys::{IpFamily, Result};

use super::elements::{self, Found, attachment};
use super::layout::PUBLISHERS;
use crate::owner::hash;
use crate::ports::Conditions;
use crate::ports::{Container, Publication};
use crate::rules::{Filled, TABLE};

/// A chain of one attachment.
pub(super) struct Guard {
    name: String,
    label: String,
    rules: Vec<Rule>,
}

impl Guard {
    pub(super) fn filled(&self) -> Filled<'_> {
        Filled { chain: chain(&self.name), base: None, comment: &self.label, rules: self.rules.clone() }
    }
}

/// The conditions of a container that a chain here tests; those of iptables are in its own rules.
fn conditions<'a>(publication: &Publication, container: &'a Container) -> Option<&'a Conditions> {
    Some(&container.conditions).filter(|conditions| publication.chain.is_none() && !conditions.is_empty())
}

/// The chains of a publication.
pub(super) fn of(publication: &Publication) -> Vec<Guard> {
    let label = publication.owner.label();
    let mut guards = Vec::new();
    for container in &publication.containers {
        if let Some(conditions) = conditions(publication, container) {
            let family = IpFamily::of(container.address);
            guards.push(Guard {
                name: name(&label, family),
                label: label.clone(),
                rules: conditions.rules(family),
            });
        }
    }
    guards
}

/// The chain that a container's ports lead to first, if it has conditions.
pub(super) fn name_of(publication: &Publication, container: &Container) -> Option<String> {
    conditions(publication, container)?;
    Some(name(&publication.owner.label(), IpFamily::of(container.address)))
}

/// Named like the publisher's element: by the parts that do not change when the network is renamed.
fn name(label: &str, family: IpFamily) -> String {
    let version = family.choose(4, 6);
    format!("published-if{version}-{:016x}", hash(attachment(label)))
}

/// The chains of these publishers that exist.
pub(super) fn there(nft: &Nft, found: &Found) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let comments = found
        .iter()
        .filter(|(set, _)| set.name == PUBLISHERS.name)
        .filter_map(|(_, publisher)| publisher.comment.as_deref());
    for label in comments.filter(|comment| elements::is_conditional(comment)) {
        for name in IpFamily::BOTH.map(|family| name(label, family)) {
            if nft.chain(&chain(&name))?.is_some() {
                names.push(name);
            }
        }
    }
    Ok(names)
}

/// Adds to `batch` the deletion of chains that nothing leads to any more.
pub(super) fn delete<'a>(batch: &mut Batch, names: impl Iterator<Item = &'a String>) {
    for name in names {
        batch.flush_chain(&chain(name));
        batch.del_chain(&chain(name));
    }
}

pub(super) fn chain(name: &str) -> Chain<'_> {
    Chain { table: TABLE, name }
}
