//! Sets and chains: see the module's own text.

use nft::{
    Base, Chain, Data, Field, Hook, IPV4, IPV6, Kind, Policy, Rule, STATUS_DNAT, Set, Type, Value, Verdict,
};

use crate::rules::{Filled, TABLE};

const GUARD: Chain<'static> = Chain { table: TABLE, name: "overlay-guard" };
const FROM: Chain<'static> = Chain { table: TABLE, name: "overlay-members" };
const UNTRACKED: Chain<'static> = Chain { table: TABLE, name: "overlay-untracked" };
const FORWARD: Chain<'static> = Chain { table: TABLE, name: "overlay-forward" };
const INPUT: Chain<'static> = Chain { table: TABLE, name: "overlay-input" };
/// All of them.
pub(super) const CHAINS: [Chain<'static>; 5] = [FROM, GUARD, UNTRACKED, FORWARD, INPUT];

/// Before connection tracking (NF_IP_PRI_CONNTRACK, linux/netfilter_ipv4.h: -200) and before the
/// rules of others at priority raw (-300).
const EARLY: Base =
    Base { kind: Kind::Filter, hook: Hook::Prerouting, priority: -310, policy: Policy::Accept };
const LEAVING: Base = Base { hook: Hook::Output, ..EARLY };
/// Before `filter` (NF_IP_PRI_FILTER).
const BETWEEN: Base = Base { kind: Kind::Filter, hook: Hook::Forward, priority: -5, policy: Policy::Accept };
const ARRIVING: Base = Base { hook: Hook::Input, ..BETWEEN };

pub(super) const PORTS: Set<'static> =
    Set { table: TABLE, name: "overlay-ports", key: &[Type::Port], data: Data::None, interval: false };
pub(super) const MEMBERS4: Set<'static> = Set { name: "overlay-members4", key: &[Type::Ipv4], ..PORTS };
pub(super) const MEMBERS6: Set<'static> = Set { name: "overlay-members6", key: &[Type::Ipv6], ..PORTS };
pub(super) const BRIDGES: Set<'static> = Set { name: "overlay-bridges", key: &[Type::Ifname], ..PORTS };
pub(super) const WITHIN: Set<'static> =
    Set { name: "overlay-within", key: &[Type::Ifname, Type::Ifname], ..PORTS };
pub(super) const INTERNAL: Set<'static> = Set { name: "overlay-internal", ..BRIDGES };
pub(super) const ADDRESSES4: Set<'static> = Set { name: "overlay-addresses4", ..MEMBERS4 };
pub(super) const ADDRESSES6: Set<'static> = Set { name: "overlay-addresses6", ..MEMBERS6 };
pub(super) const AT4: Set<'static> = Set { name: "overlay-at4", key: &[Type::Ifname, Type::Ipv4], ..PORTS };
pub(super) const AT6: Set<'static> = Set { name: "overlay-at6", key: &[Type::Ifname, Type::Ipv6], ..PORTS };
/// All of them.
pub(in crate::rules) const SETS: [Set<'static>; 10] =
    [PORTS, MEMBERS4, MEMBERS6, BRIDGES, WITHIN, INTERNAL, ADDRESSES4, ADDRESSES6, AT4, AT6];
pub(super) const COMMENTED: [(Set<'static>, &str); 10] = [
    (PORTS, "UDP ports of VXLAN"),
    (MEMBERS4, "hosts of the cluster"),
    (MEMBERS6, "hosts of the cluster"),
    (BRIDGES, "overlay networks"),
    (WITHIN, "ways that stay in a network"),
    (INTERNAL, "networks that reach nothing outside"),
    (ADDRESSES4, "the host's addresses in overlay networks"),
    (ADDRESSES6, "the host's addresses in overlay networks"),
    (AT4, "the network of each"),
    (AT6, "the network of each"),
];

/// IPPROTO_UDP.
const UDP: u8 = 17;
/// All VXLAN ids of ours begin with it.
const ID_BEGIN: u8 = 0x6d;

/// All chains with their rules; each leads to earlier ones only.
pub(super) fn chains() -> [Filled<'static>; 5] {
    let ours = || {
        Rule::new()
            .is(Field::L4PROTO, Value::new().proto(UDP))
            .member(&[Field::DPORT], &PORTS)
            .is(Field::VXLAN_ID_BEGIN, Value::new().raw(&[ID_BEGIN]))
    };
    let from = |family, field, set| {
        Rule::new().nfproto(family).member(&[field], set).notrack().verdict(Verdict::Accept)
    };
    let members = vec![
        from(IPV4, Field::IP_SADDR, &MEMBERS4),
        from(IPV6, Field::IP6_SADDR, &MEMBERS6),
        Rule::new().verdict(Verdict::Drop),
    ];
    let guard = vec![ours().verdict(Verdict::Goto(FROM.name.into()))];
    let arriving = |family, field, all, at| {
        Rule::new()
            .nfproto(family)
            .member(&[Field::IIFNAME], &BRIDGES)
            .member(&[field], all)
            .not_member(&[Field::IIFNAME, field], at)
            .verdict(Verdict::Drop)
    };
    let input = vec![
        arriving(IPV4, Field::IP_DADDR, &ADDRESSES4, &AT4),
        arriving(IPV6, Field::IP6_DADDR, &ADDRESSES6, &AT6),
    ];
    let filled = |chain, base, comment, rules| Filled { chain, base, comment, rules };
    [
        filled(FROM, None, "VXLAN of our ids comes from hosts of the cluster alone", members),
        filled(GUARD, Some(EARLY), "VXLAN of our ids", guard),
        filled(UNTRACKED, Some(LEAVING), "VXLAN of our ids is no connection", vec![ours().notrack()]),
        filled(FORWARD, Some(BETWEEN), "overlay networks do not reach each other", forward()),
        filled(INPUT, Some(ARRIVING), "nor the host's addresses in another", input),
    ]
}

fn forward() -> Vec<Rule> {
    let between = || Rule::new().member(&[Field::IIFNAME], &BRIDGES).member(&[Field::OIFNAME], &BRIDGES);
    vec![
        // Also what passes through a bridge, with br_netfilter.
        Rule::new().member(&[Field::IIFNAME, Field::OIFNAME], &WITHIN).verdict(Verdict::Accept),
        Rule::new().member(&[Field::IIFNAME], &INTERNAL).verdict(Verdict::Drop),
        Rule::new().member(&[Field::OIFNAME], &INTERNAL).verdict(Verdict::Drop),
        // Published ports. A packet of no connection has no status, so it is dropped below.
        between().any_bit(Field::Ct(nft::Ct::Status), STATUS_DNAT).verdict(Verdict::Accept),
        between().verdict(Verdict::Drop),
    ]
}
