//! Sets and chains: see the module's own text.

use std::net::IpAddr;

use nft::{
    Base, Batch, Chain, Compare, Ct, Data, Element, Field, Hook, IPV4, IPV6, Kind, Nft, Policy, Rule,
    STATE_ESTABLISHED, STATE_RELATED, STATUS_DNAT, Set, Type, Value, Verdict,
};
use sys::Result;

use crate::rules::{COMMENT, Filled, TABLE};
use crate::{Attached, Isolation, Owner};

/// The administrator's chain.
const ADMIN: Chain<'static> = Chain { table: TABLE, name: "admin" };
pub(super) const CHAIN: Chain<'static> = Chain { table: TABLE, name: "firewall" };
/// Priority `filter` (NF_IP_PRI_FILTER, linux/netfilter_ipv4.h).
const BASE: Base = Base { kind: Kind::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };

pub(super) const ACCEPTED4: Set<'static> =
    Set { table: TABLE, name: "firewall4", key: &[Type::Ipv4], data: Data::None, interval: false };
pub(super) const ACCEPTED6: Set<'static> = Set { name: "firewall6", key: &[Type::Ipv6], ..ACCEPTED4 };
/// Who is behind a link: its name, and the tag of an owner. No rule looks it up.
pub(super) const BEHIND: Set<'static> = Set { name: "behind", key: &[Type::Ifname, Type::Mark], ..ACCEPTED4 };
/// Who uses an isolated link: its name, and the tag of an owner. No rule looks it up.
pub(super) const USERS: Set<'static> = Set { name: "isolated-by", ..BEHIND };
/// Bridge ports that this suite isolated. No rule looks it up.
pub(super) const PORTS: Set<'static> = Set { name: "isolated-ports", key: &[Type::Ifname], ..ACCEPTED4 };
pub(super) const LINKS: Set<'static> = Set { name: "isolated-links", ..PORTS };
pub(super) const WITHIN: Set<'static> =
    Set { name: "isolated-within", key: &[Type::Ifname, Type::Ifname], ..ACCEPTED4 };
/// Links of networks with a policy, and its chain about connections to them.
pub(super) const INGRESS: Set<'static> = Set { name: "policy-ingress", data: Data::Verdict, ..PORTS };
/// The one about connections from them.
pub(super) const EGRESS: Set<'static> = Set { name: "policy-egress", ..INGRESS };
/// The sets with the owners of attachments.
pub(super) const OWNED: [Set<'static>; 5] = [BEHIND, USERS, PORTS, ACCEPTED4, ACCEPTED6];
pub(in crate::rules) const SETS: [Set<'static>; 9] =
    [BEHIND, USERS, PORTS, ACCEPTED4, ACCEPTED6, LINKS, WITHIN, INGRESS, EGRESS];
pub(super) const COMMENTED: [(Set<'static>, &str); 9] = [
    (BEHIND, "containers by the host's links towards them"),
    (USERS, "containers of isolated networks"),
    (PORTS, "ports that exchange no frames"),
    (ACCEPTED4, "containers that may send"),
    (ACCEPTED6, "containers that may send"),
    (LINKS, "links of isolated networks"),
    (WITHIN, "networks with neighbours that reach each other"),
    (INGRESS, "links of networks with a policy about connections to them"),
    (EGRESS, "links of networks with a policy about connections from them"),
];

/// Adds to `batch` the creation of the administrator's chain. Whatever it has stays.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn ensure_admin(nft: &Nft, batch: &mut Batch) -> Result<()> {
    if nft.chain(&ADMIN)?.is_none() {
        batch.add_table(&TABLE, Some(COMMENT));
        batch.add_chain(&ADMIN, None, Some("the administrator's: forwarded packets pass here first"));
    }
    Ok(())
}

/// The chains that go with the last attachment: not the administrator's, unless it is empty and
/// nobody else's chain leads to it.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn removable(nft: &Nft) -> Result<Vec<Chain<'static>>> {
    let ours = u32::from(nft.chain(&CHAIN)?.is_some());
    // The kernel counts the rules of a chain and the references to it as one number.
    let is_empty = nft.chain(&ADMIN)?.is_some_and(|admin| admin.uses == ours);
    let chains = [(CHAIN, ours == 1), (ADMIN, is_empty)].into_iter();
    Ok(chains.filter(|(_, goes)| *goes).map(|(chain, _)| chain).collect())
}

pub(super) fn chain() -> Filled<'static> {
    let between = Rule::new()
        .member(&[Field::IIFNAME], &LINKS)
        .member(&[Field::OIFNAME], &LINKS)
        .not_member(&[Field::IIFNAME, Field::OIFNAME], &WITHIN)
        // To and from a published port.
        .bits(Field::Ct(Ct::Status), STATUS_DNAT, Compare::Equal, 0);
    let established = Rule::new().any_bit(Field::Ct(Ct::State), STATE_ESTABLISHED | STATE_RELATED);
    let sender = |family, field, set| Rule::new().nfproto(family).member(&[field], &set);
    Filled {
        chain: CHAIN,
        base: Some(BASE),
        comment: "containers that may send, and networks that are isolated",
        rules: vec![
            Rule::new().verdict(Verdict::Jump(ADMIN.name.to_owned())),
            // Everything below is about packets that begin a connection, or have none.
            established.verdict(Verdict::Accept),
            Rule::new().verdict_map(&[Field::IIFNAME], &EGRESS),
            Rule::new().verdict_map(&[Field::OIFNAME], &INGRESS),
            between.verdict(Verdict::Drop),
            sender(IPV4, Field::IP_SADDR, ACCEPTED4).verdict(Verdict::Accept),
            sender(IPV6, Field::IP6_SADDR, ACCEPTED6).verdict(Verdict::Accept),
        ],
    }
}

/// The elements of an attachment, each with the comment that names its owner.
pub(super) fn elements(attached: &Attached, owner: &Owner) -> Vec<(Set<'static>, Element)> {
    let label = owner.label();
    let mut elements = Vec::new();
    if let Some(link) = &attached.link {
        let behind = Value::new().ifname(link).mark(owner.tag());
        elements.push((BEHIND, Element::new(behind).comment(&label)));
    }
    if let Some((link, within)) = isolated(attached) {
        elements.push((USERS, Element::new(link.mark(owner.tag())).comment(&label)));
        let network = Owner::network_label(&owner.network);
        elements.push((LINKS, Element::new(link).comment(&network)));
        elements.extend(within.map(|within| (WITHIN, Element::new(within).comment(&network))));
    }
    if let Some(port) = &attached.port {
        elements.push((PORTS, Element::new(Value::new().ifname(port)).comment(&label)));
    }
    let accepted = |address: &IpAddr| {
        let set = if address.is_ipv4() { ACCEPTED4 } else { ACCEPTED6 };
        (set, Element::new(Value::new().addr(*address)).comment(&label))
    };
    elements.extend(attached.accepted.iter().map(accepted));
    elements
}

/// The isolated link, and the pair of it with itself if its neighbours reach each other.
fn isolated(attached: &Attached) -> Option<(Value, Option<Value>)> {
    let link = attached.link.as_deref()?;
    let key = Value::new().ifname(link);
    match attached.isolation {
        Isolation::Open => None,
        Isolation::SameBridge => Some((key, Some(key.ifname(link)))),
        Isolation::Isolated => Some((key, None)),
    }
}

/// The keys that an attachment must not have: what an earlier policy of its network left.
pub(super) fn unwanted(attached: &Attached, owner: &Owner) -> Vec<(Set<'static>, Element)> {
    let Some(link) = attached.link.as_deref() else { return Vec::new() };
    let key = Value::new().ifname(link);
    let of_network = |key: Value| Element::new(key).comment(Owner::network_label(&owner.network));
    let within = (WITHIN, of_network(key.ifname(link)));
    match attached.isolation {
        Isolation::SameBridge => Vec::new(),
        Isolation::Isolated => vec![within],
        Isolation::Open => {
            let user = Element::new(key.mark(owner.tag())).comment(owner.label());
            vec![within, (LINKS, of_network(key)), (USERS, user)]
        }
    }
}

/// The name of a link in a key of [`BEHIND`] or [`USERS`].
pub(super) fn link_of(user: &Element) -> String {
    Value::new().raw(user.key.bytes().get(..16).unwrap_or_default()).show(LINKS.key)
}
