//! Keeps 127.0.0.0/8 of this host off the wire. With `route_localnet` the kernel accepts packets
//! from a neighbour that claim to be from or to the host's loopback (as in CVE-2020-8558); on all
//! other links it drops them (RFC 1122, section 3.2.1.3).
//!
//! Packets of established connections that pass the host are not examined:
//!
//! - The first packet of a connection is examined before any translation.
//! - A packet that arrives at this host is examined again. Its destination may have been translated
//!   to 127.0.0.0/8: a reply to the host's masqueraded loopback, or an administrator's redirection.
//!   The connection has the destination that was on the wire.
//! - A packet of no connection (invalid or untracked) is not translated: if it is for 127.0.0.0/8,
//!   it arrives at this host.
//! - With `rp_filter`, the kernel forwards no packets from 127.0.0.0/8. Without it, those of no
//!   connection are dropped with others of their kind if a network is masqueraded
//!   (`rules::masquerade`). If none is, or with `accept_local`, one more chain examines what passes.
//! - Connections that began while these rules were missing are forgotten
//!   ([`super::flows::forget_strangers`]).

use nft::{Base, Batch, Ct, Field, Hook, IPV4, Kind, Nft, ORIGINAL, Policy, REPLY, Rule, Value, Verdict};
use sys::{Result, sysctl};

use super::layout::{LOCALNET, chain, loopback, to_containers};
use crate::rules::Filled;

/// Before the NAT of services (-100). The kernel accepts no NAT before connection tracking (-200).
const FIRST_NAT: i32 = -199;
/// Before all other rules.
const FIRST: i32 = -300;
const ON_THE_WIRE: &str = "published-loopback";

/// All chains of published ports, in the order of their creation. `links` carry 127.0.0.0/8.
/// `is_dropped`: whether packets of no connection from 127.0.0.0/8 are dropped elsewhere.
pub(super) fn chains<'a>(
    links: impl Iterator<Item = &'a str> + Clone,
    is_dropped: impl FnOnce() -> Result<bool>,
) -> Result<Vec<Filled<'static>>> {
    let mut chains = always();
    if accept_local(links.clone()) || forward_any(links) && !is_dropped()? {
        chains.push(forward());
    }
    Ok(chains)
}

fn always() -> Vec<Filled<'static>> {
    let mut chains = to_containers();
    chains.extend([on_the_wire(), first_packets(), input()]);
    chains
}

/// Adds to `batch` the chain that drops what is no longer dropped elsewhere, if a link needs it.
///
/// # Errors
/// The kernel could not be asked.
pub(in crate::rules) fn stand_in(nft: &Nft, batch: &mut Batch) -> Result<()> {
    let links = nft.elements(&LOCALNET)?;
    let links: Vec<String> = links.iter().map(|element| element.key.show(LOCALNET.key)).collect();
    if forward_any(links.iter().map(String::as_str)) && nft.chain(&forward().chain)?.is_none() {
        forward().write(batch);
    }
    Ok(())
}

/// Whether the kernel forwards some packets from 127.0.0.0/8 that come from one of these links
/// (fib_validate_source, net/ipv4/fib_frontend.c).
fn forward_any<'a>(mut links: impl Iterator<Item = &'a str>) -> bool {
    links.any(|link| !is_on(link, "rp_filter"))
}

/// Whether it forwards all of them, also those that have an address of this host.
fn accept_local<'a>(mut links: impl Iterator<Item = &'a str>) -> bool {
    links.any(|link| is_on(link, "accept_local"))
}

fn is_on(link: &str, key: &str) -> bool {
    ["all", link]
        .iter()
        .any(|link| sysctl::read(&format!("net/ipv4/conf/{link}/{key}")).is_ok_and(|value| value != "0"))
}

/// Matches packets with this address in 127.0.0.0/8 from a link that carries it.
fn of_loopback(addr: Field) -> Rule {
    Rule::new().nfproto(IPV4).network(addr, loopback(), true).member(&[Field::IIFNAME], &LOCALNET)
}

fn base(kind: Kind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority, policy: Policy::Accept })
}

fn on_the_wire() -> Filled<'static> {
    let translated = |direction, addr| {
        Rule::new()
            .is(Field::Ct(Ct::Direction), Value::new().raw(&[direction]))
            .network(Field::Ct(addr), loopback(), false)
            .verdict(Verdict::Return)
    };
    Filled {
        chain: chain(ON_THE_WIRE),
        base: None,
        comment: "had another destination on the wire, or is dropped",
        rules: vec![
            translated(ORIGINAL, Ct::OriginalDaddr),
            translated(REPLY, Ct::ReplyDaddr),
            Rule::new().verdict(Verdict::Drop),
        ],
    }
}

fn first_packets() -> Filled<'static> {
    Filled {
        chain: chain("published-new"),
        base: base(Kind::Nat, Hook::Prerouting, FIRST_NAT),
        comment: "no connection to 127.0.0.0/8 begins on the wire",
        rules: [Field::IP_DADDR, Field::IP_SADDR].map(|addr| of_loopback(addr).verdict(Verdict::Drop)).into(),
    }
}

fn input() -> Filled<'static> {
    Filled {
        chain: chain("published-input"),
        base: base(Kind::Filter, Hook::Input, FIRST),
        comment: "127.0.0.0/8 does not come by the wire",
        rules: vec![
            of_loopback(Field::IP_DADDR).verdict(Verdict::Jump(ON_THE_WIRE.into())),
            of_loopback(Field::IP_SADDR).verdict(Verdict::Drop),
        ],
    }
}

fn forward() -> Filled<'static> {
    Filled {
        chain: chain("published-leaving"),
        // Where other chains are too: the first of a hook costs most.
        base: base(Kind::Filter, Hook::Postrouting, FIRST),
        comment: "127.0.0.0/8 does not pass, which the kernel leaves to us",
        // The cheapest test first, although it reads other bytes of IPv6: every packet passes here.
        rules: vec![
            Rule::new()
                .network(Field::IP_SADDR, loopback(), true)
                .nfproto(IPV4)
                .member(&[Field::IIFNAME], &LOCALNET)
                .verdict(Verdict::Drop),
        ],
    }
}
