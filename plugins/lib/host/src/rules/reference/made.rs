//! Rules that the reference's plugins made for an attachment. CHECK accepts them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Mac;
use nft::{Chain, Field, IPV4, IPV6, Nft, Rule, RuleInfo, Value, Verdict, same};
use sys::Result;

use super::{FRAMES, Hashes, MASQ_CHECKS, MASQUERADE, PORTS, attachment_hash, jumps_to};
use crate::Owner;
use crate::iptables::MasqueradeChain;

/// The chain that leads packets to [`MASQ_CHECKS`].
const POSTROUTING: Chain<'static> = Chain { table: MASQUERADE, name: "postrouting" };

/// Whether the reference's rules, of either back end, masquerade all addresses of an attachment. To
/// examine those of iptables takes child processes.
///
/// # Errors
/// The kernel could not be asked.
pub fn masquerades(nft: &Nft, owner: &Owner, addresses: &[IpNetwork]) -> Result<bool> {
    if addresses.is_empty() {
        return Ok(false);
    }
    if masquerades_by_nft(nft, owner, addresses)? {
        return Ok(true);
    }
    let chain = MasqueradeChain { owner: owner.clone(), addresses: addresses.to_vec() };
    // A host without the programs has none of their rules.
    Ok(chain.verify().is_ok_and(|drifts| drifts.is_empty()))
}

fn masquerades_by_nft(nft: &Nft, owner: &Owner, addresses: &[IpNetwork]) -> Result<bool> {
    let leads_there = |rule: &RuleInfo| jumps_to(rule, MASQ_CHECKS.name);
    if !nft.rules(&POSTROUTING)?.iter().any(leads_there) {
        return Ok(false);
    }
    let attachment = attachment_hash(owner);
    let mut rules = nft.rules(&MASQ_CHECKS)?;
    rules.retain(|rule| {
        let of = rule.comment.as_deref().and_then(Hashes::of);
        of.is_some_and(|of| of.attachment == attachment)
    });
    Ok(addresses.iter().all(|net| {
        let (family, saddr, daddr) = match net {
            IpNetwork::V4(_) => (IPV4, Field::IP_SADDR, Field::IP_DADDR),
            IpNetwork::V6(_) => (IPV6, Field::IP6_SADDR, Field::IP6_DADDR),
        };
        let wanted = Rule::new()
            .nfproto(family)
            .is(saddr, Value::new().addr(net.ip()))
            .network(daddr, *net, false)
            .masquerade(false);
        rules.iter().any(|rule| same(&rule.exprs, wanted.exprs()))
    }))
}

/// Whether the reference's MAC filter covers a port.
///
/// # Errors
/// The kernel could not be asked.
pub fn guards(nft: &Nft, owner: &Owner, port: &str, mac: Mac) -> Result<bool> {
    let attachment = format!("{}-{}", owner.container_id, owner.ifname);
    let [first, second] = [format!("cni-br-iface-{attachment}"), format!("cni-br-iface-{attachment}-mac")];
    if second.len() >= super::CHAIN_NAME_MAX {
        return Ok(false);
    }
    let has = |chain: &Chain<'_>, wanted: &[Rule]| -> Result<bool> {
        let rules = nft.rules(chain)?;
        let is_there = |wanted: &Rule| rules.iter().any(|rule| same(&rule.exprs, wanted.exprs()));
        Ok(wanted.iter().all(is_there))
    };
    let jump = |chain: &str| Verdict::Jump(chain.to_owned());
    let of_port = Rule::new().is(Field::IIFNAME, Value::new().ifname(port)).verdict(jump(&first));
    let of_mac = [
        Rule::new().is(Field::ETHER_SADDR, Value::new().mac(mac)).verdict(Verdict::Return),
        Rule::new().verdict(Verdict::Drop),
    ];
    Ok(has(&PORTS, &[of_port])?
        && has(&Chain { table: FRAMES, name: &first }, &[Rule::new().verdict(jump(&second))])?
        && has(&Chain { table: FRAMES, name: &second }, &of_mac)?)
}

/// The addresses, with the prefix lengths of the subnets that contain them.
pub fn networks(addresses: &[IpAddr], subnets: &[IpNetwork]) -> Vec<IpNetwork> {
    let of = |address: &IpAddr| {
        let subnet = subnets.iter().find(|subnet| subnet.contains(*address))?;
        IpNetwork::new(*address, subnet.prefix()).ok()
    };
    addresses.iter().filter_map(of).collect()
}
