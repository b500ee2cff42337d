//! Connections that bypass the rules once they are established: a flowtable over the containers'
//! links on the host and the host's uplinks.
//!
//! ```text
//! set fastpath4      { type ipv4_addr; elements = { 10.1.2.3 comment "moor/net/eth0/c1" } }
//! set fastpath-links { type ifname; elements = { "veth01234567" comment "moor/net/eth0/c1" } }
//! flowtable fastpath { hook ingress priority filter; devices = { eth0, veth01234567 } }
//! chain fastpath     { type filter hook forward priority 1000;
//!                      ip saddr @fastpath4 flow add @fastpath; … }
//! ```
//!
//! The set of links keeps their owners, which a flowtable cannot. A link leaves the flowtable by
//! itself when it is deleted. The chain is the last in `forward`: a packet that another chain drops
//! brings no connection into the flowtable.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink::Netlink;
use nft::{
    Base, Batch, Chain, Data, Element, Family, Field, Flowtable, Hook, IPV4, IPV6, Kind, Nft, Policy, Rule,
    Set, Table, Type, Value,
};
use sys::Result;

use super::alive::ensure_dead;
use super::{
    COMMENT, Filled, Group, Left, Owned, Restored, TABLE, element_drifts, ensure, owned, restore, retire_with,
};
use crate::intent::{self, By};
use crate::{Drift, Owner};

const FLOWTABLE: Flowtable<'static> = Flowtable { table: TABLE, name: "fastpath" };
const CHAIN: Chain<'static> = Chain { table: TABLE, name: "fastpath" };
/// After all chains that filter.
const BASE: Base = Base { kind: Kind::Filter, hook: Hook::Forward, priority: 1000, policy: Policy::Accept };
const V4: Set<'static> =
    Set { table: TABLE, name: "fastpath4", key: &[Type::Ipv4], data: Data::None, interval: false };
const V6: Set<'static> = Set { name: "fastpath6", key: &[Type::Ipv6], ..V4 };
const LINKS: Set<'static> = Set { name: "fastpath-links", key: &[Type::Ifname], ..V4 };
pub(super) const SETS: [Set<'static>; 3] = [V4, V6, LINKS];
const COMMENTED: [(Set<'static>, &str); 3] = [
    (V4, "containers with a fast path"),
    (V6, "containers with a fast path"),
    (LINKS, "links of containers with a fast path"),
];
/// Attempts to delete links from the flowtable while the kernel deletes them too.
const ATTEMPTS: u32 = 5;

/// The fast path of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPath<'a> {
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// The links of the host by which packets from the container come, all of which exist.
    pub links: &'a [String],
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
}

impl FastPath<'_> {
    /// Checks that the kernel has flowtables. A first call creates one and deletes it at once.
    ///
    /// # Errors
    /// It has none; or the kernel refused.
    pub fn require(nft: &Nft) -> Result<()> {
        if nft.flowtable(&FLOWTABLE)?.is_some() {
            return Ok(());
        }
        let table = Table { family: Family::Inet, name: "moor-probe" };
        let (flowtable, chain) = (Flowtable { table, name: "probe" }, Chain { table, name: "probe" });
        let mut batch = Batch::new();
        batch.add_table(&table, None);
        batch.add_flowtable(&flowtable, &[]);
        batch.add_chain(&chain, None, None);
        batch.add_rule(&chain, &Rule::new().offload(&flowtable));
        batch.del_table(&table);
        nft.commit(batch).map_err(|error| match error.is_not_found() || error.is_not_supported() {
            true => error.within(
                "fastPath needs flowtables of nf_tables, which this kernel is without \
                 (modules nf_flow_table, nf_flow_table_inet and nft_flow_offload)"
                    .into(),
            ),
            false => error,
        })
    }

    /// Adds the elements, the links and the `uplinks`. Takes over an address from another
    /// attachment, unless that is alive.
    ///
    /// # Errors
    /// [`crate::Conflict::AddressInUse`]; or the kernel refused.
    pub fn add(&self, nft: &Nft, uplinks: &[String]) -> Result<()> {
        nft.transact(|nft, batch| {
            let missing = missing(nft, self.links.iter().chain(uplinks))?;
            add_links(batch, missing);
            ensure(nft, batch, &TABLE, &COMMENTED, &[chain()])?;
            for (set, element) in self.elements() {
                match nft.element(&set, &element)? {
                    Some(there) if there == element => continue,
                    Some(stale) => {
                        ensure_dead(self.label, &set, &stale)?;
                        batch.del_elements(&set, &[stale]);
                    }
                    None => {}
                }
                batch.create_elements(&set, &[element]);
            }
            Ok(())
        })
    }

    /// Adds to `batch` what is missing of all of these, and of the `uplinks`. Call it inside
    /// [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(
        all: &[Self],
        uplinks: &[String],
        nft: &Nft,
        batch: &mut Batch,
        restored: &mut Restored,
    ) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let missing = missing(nft, all.iter().flat_map(|one| one.links).chain(uplinks))?;
        restored.elements += missing.as_ref().map_or(0, |missing| missing.links.len());
        add_links(batch, missing);
        let elements = all.iter().flat_map(Self::elements).collect();
        let group = Group { table: TABLE, sets: &COMMENTED, chains: &[chain()], elements };
        restore(nft, batch, group, restored)
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft, uplinks: &[String]) -> Result<Vec<Drift>> {
        let mut drifts = chain().drifts(nft)?;
        if let Some(missing) = missing(nft, self.links.iter().chain(uplinks))? {
            let actual =
                if missing.is_new { "absent".to_owned() } else { missing.links.join(", ") + " missing" };
            drifts.push(Drift::new(FLOWTABLE.to_string(), "with its links", actual));
        }
        drifts.extend(element_drifts(nft, self.elements(), self.label)?);
        Ok(drifts)
    }

    fn elements(&self) -> Vec<(Set<'static>, Element)> {
        let address =
            |address: &IpAddr| (if address.is_ipv4() { V4 } else { V6 }, Value::new().addr(*address));
        let link = |link: &String| (LINKS, Value::new().ifname(link));
        let keys = self.addresses.iter().map(address).chain(self.links.iter().map(link));
        keys.map(|(set, key)| (set, Element::new(key).comment(self.label))).collect()
    }
}

/// The links of the host's default routes.
///
/// # Errors
/// The kernel could not be asked.
pub fn uplinks(host: &Netlink) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for index in host.uplinks()? {
        // A default route by loopback does not lead to the outside.
        names.extend(host.link_by_index(index)?.map(|link| link.name).filter(|name| name != "lo"));
    }
    Ok(names)
}

/// Deletes what a failed ADD created.
///
/// # Errors
/// The kernel refused.
pub(crate) fn delete_own(nft: &Nft, owner: &Owner) -> Result<()> {
    let label = owner.label();
    delete(nft, &|other| Ok(other == label))
}

/// Deletes the fast paths of all attachments of a network except `valid`, with their records.
///
/// # Errors
/// The kernel refused.
pub fn withdraw_all_but(nft: &Nft, network: &str, valid: &[Owner]) -> Result<()> {
    intent::remove_all_but(By::FastPath, network, &valid.iter().cloned().collect())?;
    let prefix = Owner::label_prefix(network);
    let labels: BTreeSet<String> = valid.iter().map(Owner::label).collect();
    delete(nft, &|label| Ok(label.starts_with(&prefix) && !labels.contains(label)))
}

/// Deletes the elements with an owner that `is_ours` accepts, and their links from the flowtable.
///
/// # Errors
/// The kernel refused.
pub(super) fn delete(nft: &Nft, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    // Most hosts have none.
    if nft.set_is(&LINKS)?.is_none() {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        match nft.transact(|nft, batch| delete_some(nft, batch, is_ours)) {
            Ok(Left::Nothing) => return Ok(()),
            Ok(Left::Some) => {}
            // The kernel deleted a link just now, which is no change of the rules.
            Err(error) if error.is_not_found() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn delete_some(nft: &Nft, batch: &mut Batch, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<Left> {
    let Some(Owned { elements, is_all, left }) = owned(nft, &SETS, is_ours)? else {
        return Ok(Left::Nothing);
    };
    let there = nft.flowtable(&FLOWTABLE)?;
    if is_all {
        let chains: Vec<Chain<'_>> = nft.chain(&CHAIN)?.map(|_| CHAIN).into_iter().collect();
        let flowtables: Vec<Flowtable<'_>> = there.map(|_| FLOWTABLE).into_iter().collect();
        retire_with(nft, batch, &TABLE, &chains, &SETS, &flowtables)?;
        return Ok(left);
    }
    let links: BTreeSet<String> = elements
        .iter()
        .filter(|(set, _)| set.name == LINKS.name)
        .flat_map(|(_, ours)| ours.iter().map(|element| element.key.show(LINKS.key)))
        .collect();
    let there = there.unwrap_or_default();
    let going: Vec<&str> = there.iter().filter(|link| links.contains(*link)).map(String::as_str).collect();
    batch.del_flowtable_links(&FLOWTABLE, &going);
    elements.iter().for_each(|(set, ours)| batch.del_elements(set, ours));
    Ok(left)
}

/// What the flowtable lacks.
struct Missing {
    is_new: bool,
    links: Vec<String>,
}

/// `None` if the flowtable has all of these links.
fn missing<'a>(nft: &Nft, links: impl Iterator<Item = &'a String>) -> Result<Option<Missing>> {
    let there = nft.flowtable(&FLOWTABLE)?;
    let is_new = there.is_none();
    let there: BTreeSet<String> = there.unwrap_or_default().into_iter().collect();
    let wanted: BTreeSet<&String> = links.filter(|link| !there.contains(*link)).collect();
    let missing = Missing { is_new, links: wanted.into_iter().cloned().collect() };
    Ok((missing.is_new || !missing.links.is_empty()).then_some(missing))
}

fn add_links(batch: &mut Batch, missing: Option<Missing>) {
    let Some(Missing { is_new, links }) = missing else { return };
    if is_new {
        batch.add_table(&TABLE, Some(COMMENT));
        batch.add_flowtable(&FLOWTABLE, &[]);
    }
    // The kernel takes at most 256 in one message (NFT_NETDEVICE_MAX).
    let links: Vec<&str> = links.iter().map(String::as_str).collect();
    links.chunks(128).for_each(|some| batch.add_flowtable(&FLOWTABLE, some));
}

fn chain() -> Filled<'static> {
    let rules = [
        (IPV4, Field::IP_SADDR, V4),
        (IPV4, Field::IP_DADDR, V4),
        (IPV6, Field::IP6_SADDR, V6),
        (IPV6, Field::IP6_DADDR, V6),
    ];
    let rule = |(family, field, set): (u8, Field, Set<'static>)| {
        Rule::new().nfproto(family).member(&[field], &set).offload(&FLOWTABLE)
    };
    Filled {
        chain: CHAIN,
        base: Some(BASE),
        comment: "connections that bypass all rules once they are established",
        rules: rules.into_iter().map(rule).collect(),
    }
}
