//! The maps, sets and chains of published ports.
//!
//! The cost of a packet is the same for one port and for ten thousand. Each family has two hash
//! maps (by protocol and port, and by address too) and two interval maps for ranges that keep their
//! port numbers. (nft's language cannot shift a range of ports, and a saved ruleset must load
//! again, so each moved port is an element of its own.) The maps are looked up only for the first
//! packet of a connection, and only if its destination is an address of this host: forwarded
//! packets are never affected (CVE-2019-9946, CVE-2025-67499). Two more interval maps, usually
//! empty, lead to the chains of containers with conditions ([`super::guard`]); only packets to
//! their ports enter these.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network};
use nft::{
    Base, Chain, Ct, Data, Field, Hook, IPV4, IPV6, Kind, LOCAL, Policy, Rule, STATUS_DNAT, Set, Type, Value,
    Verdict,
};

use super::super::{Filled, TABLE};
use super::retired;

const TARGET4: &[Type] = &[Type::Ipv4, Type::Port];
const TARGET6: &[Type] = &[Type::Ipv6, Type::Port];

const fn map(name: &'static str, key: &'static [Type], data: Data, interval: bool) -> Set<'static> {
    Set { table: TABLE, name, key, data, interval }
}

/// The sets of one address family.
pub(super) struct FamilySets {
    /// Ports at any address of the host.
    pub ports: Set<'static>,
    /// Ports at one address of the host.
    pub ports_at: Set<'static>,
    /// Ranges of ports that keep their numbers, at any address.
    pub ranges: Set<'static>,
    /// The same at one address.
    pub ranges_at: Set<'static>,
    /// Ports of containers with conditions, and the chain that tests these (see [`super::guard`]).
    pub guarded: Set<'static>,
    /// The same at one address of the host.
    pub guarded_at: Set<'static>,
    /// Ports that iptables leads to a container, at one address or at any (all zeros): for the
    /// ledger.
    pub elsewhere: Set<'static>,
    /// The link that leads to a container, and the container: packets from there return there.
    pub hairpin: Set<'static>,
    /// A container's address twice: where bridged packets pass these hooks (br_netfilter), the link
    /// does not identify the sender.
    pub oneself: Set<'static>,
    /// Containers with all of their clients masqueraded.
    pub everyone: Set<'static>,
}

pub(super) const V4: FamilySets = FamilySets {
    ports: map("ports4", &[Type::Proto, Type::Port], Data::Value(TARGET4), false),
    ports_at: map("ports-at4", &[Type::Ipv4, Type::Proto, Type::Port], Data::Value(TARGET4), false),
    ranges: map("port-ranges4", &[Type::Proto, Type::Port], Data::Value(&[Type::Ipv4]), true),
    ranges_at: map(
        "port-ranges-at4",
        &[Type::Ipv4, Type::Proto, Type::Port],
        Data::Value(&[Type::Ipv4]),
        true,
    ),
    guarded: map("conditional4", &[Type::Proto, Type::Port], Data::Verdict, true),
    guarded_at: map("conditional-at4", &[Type::Ipv4, Type::Proto, Type::Port], Data::Verdict, true),
    elsewhere: map("iptables4", &[Type::Ipv4, Type::Proto, Type::Port], Data::Value(&[Type::Ipv4]), true),
    hairpin: map("hairpin4", &[Type::Ifname, Type::Ipv4], Data::None, false),
    oneself: map("oneself4", &[Type::Ipv4, Type::Ipv4], Data::None, false),
    everyone: map("everyone4", &[Type::Ipv4], Data::None, false),
};

pub(super) const V6: FamilySets = FamilySets {
    ports: map("ports6", &[Type::Proto, Type::Port], Data::Value(TARGET6), false),
    ports_at: map("ports-at6", &[Type::Ipv6, Type::Proto, Type::Port], Data::Value(TARGET6), false),
    ranges: map("port-ranges6", &[Type::Proto, Type::Port], Data::Value(&[Type::Ipv6]), true),
    ranges_at: map(
        "port-ranges-at6",
        &[Type::Ipv6, Type::Proto, Type::Port],
        Data::Value(&[Type::Ipv6]),
        true,
    ),
    guarded: map("conditional6", &[Type::Proto, Type::Port], Data::Verdict, true),
    guarded_at: map("conditional-at6", &[Type::Ipv6, Type::Proto, Type::Port], Data::Verdict, true),
    elsewhere: map("iptables6", &[Type::Ipv6, Type::Proto, Type::Port], Data::Value(&[Type::Ipv6]), true),
    hairpin: map("hairpin6", &[Type::Ifname, Type::Ipv6], Data::None, false),
    oneself: map("oneself6", &[Type::Ipv6, Type::Ipv6], Data::None, false),
    everyone: map("everyone6", &[Type::Ipv6], Data::None, false),
};

/// Containers that the host reaches from its own 127.0.0.0/8.
pub(super) const LOOPBACK: Set<'static> = map("loopback4", &[Type::Ipv4], Data::None, false);
/// Links that carry 127.0.0.0/8 for that reason. An element's comment holds the previous value of
/// `route_localnet`.
pub(super) const LOCALNET: Set<'static> = map("localnet", &[Type::Ifname], Data::None, false);
/// The publishers. The key is a hash of the attachment, the value is its links and addresses, and
/// the comment names it and counts its elements. One lookup shows that a container has published
/// nothing, which is the usual case.
pub(super) const PUBLISHERS: Set<'static> = map(
    "publishers",
    &[Type::Mark, Type::Mark],
    Data::Value(&[Type::Ifname, Type::Ipv4, Type::Ifname, Type::Ipv6]),
    false,
);

/// Every set, with its purpose.
pub(super) fn sets() -> [(Set<'static>, &'static str); 23] {
    let mut sets = [(PUBLISHERS, "who publishes ports"); 23];
    let family = |family: &FamilySets| {
        [
            (family.ports, "published ports"),
            (family.ports_at, "published ports of one address"),
            (family.ranges, "published ranges that keep their port numbers"),
            (family.ranges_at, "published ranges of one address that keep their port numbers"),
            (family.guarded, "published under conditions"),
            (family.guarded_at, "published at one address under conditions"),
            (family.elsewhere, "published by iptables: no packet is looked up here"),
            (family.hairpin, "containers, by the link that leads there"),
            (family.oneself, "containers, by their own address twice"),
            (family.everyone, "containers that see no client address"),
        ]
    };
    let rest = [(LOOPBACK, "containers reached by 127.0.0.0/8"), (LOCALNET, "links with route_localnet")];
    let all = family(&V4).into_iter().chain(family(&V6)).chain(rest);
    sets.iter_mut().skip(1).zip(all).for_each(|(to, from)| *to = from);
    sets
}

/// The sets with elements of attachments: all but [`LOCALNET`], which has elements of links.
pub(in crate::rules) fn owned() -> impl Iterator<Item = Set<'static>> {
    sets().into_iter().map(|(set, _)| set).filter(|set| set.name != LOCALNET.name).chain(retired::SETS)
}

pub(super) const fn chain(name: &'static str) -> Chain<'static> {
    Chain { table: TABLE, name }
}

const LOOKUP: Chain<'static> = chain("published");
const MASQUERADE: Chain<'static> = chain("published-masquerade");

/// After the NAT of services (-100, as in iptables and kube-proxy): service addresses are theirs.
const AFTER_DNAT: i32 = -90;
/// Before the masquerade of networks (100).
const BEFORE_SNAT: i32 = 90;

/// The chains that lead to containers with their rules, in the order of their creation.
pub(super) fn to_containers() -> Vec<Filled<'static>> {
    let nat = |hook, priority| Some(Base { kind: Kind::Nat, hook, priority, policy: Policy::Accept });
    let local = || {
        Rule::new()
            .is(Field::FibDaddrType, Value::new().mark(LOCAL))
            .verdict(Verdict::Jump(LOOKUP.name.into()))
    };
    vec![
        Filled { chain: LOOKUP, base: None, comment: "leads to containers", rules: lookup() },
        Filled { chain: MASQUERADE, base: None, comment: "who must not see the client", rules: masquerade() },
        Filled {
            chain: chain("published-prerouting"),
            base: nat(Hook::Prerouting, AFTER_DNAT),
            comment: "what comes to an address of this host",
            // The host's own packets have passed `output`: these come by the wire, and what is
            // published at 127.0.0.1 is not for others.
            rules: vec![
                Rule::new().nfproto(IPV4).network(Field::IP_DADDR, loopback(), true).verdict(Verdict::Return),
                local(),
            ],
        },
        Filled {
            chain: chain("published-output"),
            base: nat(Hook::Output, AFTER_DNAT),
            comment: "what this host sends to itself",
            // The kernel routes ::1 nowhere else. An immediate refusal is better than a time-out:
            // clients then try 127.0.0.1.
            rules: vec![
                Rule::new()
                    .nfproto(IPV6)
                    .is(Field::IP6_DADDR, Value::new().addr(Ipv6Addr::LOCALHOST))
                    .verdict(Verdict::Return),
                local(),
            ],
        },
        Filled {
            chain: chain("published-postrouting"),
            base: nat(Hook::Postrouting, BEFORE_SNAT),
            comment: "connections whose destination was changed",
            rules: vec![
                Rule::new()
                    .any_bit(Field::Ct(Ct::Status), STATUS_DNAT)
                    .verdict(Verdict::Jump(MASQUERADE.name.into())),
            ],
        },
    ]
}

fn lookup() -> Vec<Rule> {
    let mut rules = Vec::new();
    for (sets, family, daddr) in [(&V4, IPV4, Field::IP_DADDR), (&V6, IPV6, Field::IP6_DADDR)] {
        let rule = || Rule::new().nfproto(family);
        let at = [daddr, Field::L4PROTO, Field::DPORT];
        let any = [Field::L4PROTO, Field::DPORT];
        rules.extend([
            rule().verdict_map(&at, &sets.guarded_at),
            rule().verdict_map(&any, &sets.guarded),
            rule().dnat_map(&at, &sets.ports_at),
            rule().dnat_map(&at, &sets.ranges_at),
            rule().dnat_map(&any, &sets.ports),
            rule().dnat_map(&any, &sets.ranges),
        ]);
    }
    rules
}

fn masquerade() -> Vec<Rule> {
    let v4 = || Rule::new().nfproto(IPV4);
    let v6 = || Rule::new().nfproto(IPV6);
    vec![
        v4().member(&[Field::IIFNAME, Field::IP_DADDR], &V4.hairpin).masquerade(false),
        v4().member(&[Field::IP_SADDR, Field::IP_DADDR], &V4.oneself).masquerade(false),
        v4().network(Field::IP_SADDR, loopback(), true)
            .member(&[Field::IP_DADDR], &LOOPBACK)
            .masquerade(false),
        v4().member(&[Field::IP_DADDR], &V4.everyone).masquerade(false),
        v6().member(&[Field::IIFNAME, Field::IP6_DADDR], &V6.hairpin).masquerade(false),
        v6().member(&[Field::IP6_SADDR, Field::IP6_DADDR], &V6.oneself).masquerade(false),
        v6().member(&[Field::IP6_DADDR], &V6.everyone).masquerade(false),
    ]
}

pub(in crate::rules) fn loopback() -> IpNetwork {
    // 8 is a prefix length.
    Ipv4Network::new(Ipv4Addr::LOCALHOST, 8)
        .map_or(IpNetwork::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST)), Into::into)
}
