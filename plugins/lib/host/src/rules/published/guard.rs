//! The chains that keep conditions: one of each family for an attachment that has any, which a port of its leads to
//! before it leads to the container. Other attachments' packets never come there.

use nft::{Batch, Chain, Nft, Rule};
use sys::{IpFamily, Result};

use super::elements::{self, Found, attachment};
use super::layout::PUBLISHERS;
use crate::owner::hash;
use crate::ports::Conditions;
use crate::ports::{Container, Publication};
use crate::rules::{Filled, TABLE};

/// A chain of an attachment's.
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

/// The conditions of a container's that are kept here: those of iptables are in its rules.
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

/// What a container's ports lead to first, if it has conditions.
pub(super) fn name_of(publication: &Publication, container: &Container) -> Option<String> {
    conditions(publication, container)?;
    Some(name(&publication.owner.label(), IpFamily::of(container.address)))
}

/// As the publisher's element is named: by what does not change when the network is renamed.
fn name(label: &str, family: IpFamily) -> String {
    let version = family.choose(4, 6);
    format!("published-if{version}-{:016x}", hash(attachment(label)))
}

/// Those chains of these publishers that are there.
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

/// Has `batch` delete chains that nothing leads to any more.
pub(super) fn delete<'a>(batch: &mut Batch, names: impl Iterator<Item = &'a String>) {
    for name in names {
        batch.flush_chain(&chain(name));
        batch.del_chain(&chain(name));
    }
}

pub(super) fn chain(name: &str) -> Chain<'_> {
    Chain { table: TABLE, name }
}
