//! Ports that the reference's portmap published with its nftables back end. CHECK accepts them.

use nft::{Chain, Family, Field, Nft, Rule, RuleInfo, Table, Value, same};
use sys::{IpFamily, Result};

use crate::ports::{Container, Mapping, Publication};

/// Its chains for ports at any address, and at one address.
const CHAINS: [&str; 2] = ["hostports", "hostip_hostports"];

/// Whether the reference's rules lead all ports of a publication to the container.
///
/// # Errors
/// The kernel could not be asked.
pub fn is_published_by_reference(nft: &Nft, publication: &Publication) -> Result<bool> {
    for container in &publication.containers {
        let family = IpFamily::of(container.address).choose(Family::Ip, Family::Ip6);
        let table = Table { family, name: "cni_hostport" };
        let mut rules = Vec::new();
        for name in CHAINS {
            rules.extend(nft.rules(&Chain { table, name })?);
        }
        rules.retain(|rule| rule.comment.as_deref() == Some(&publication.owner.container_id));
        if !container.mappings.iter().all(|mapping| is_led(&rules, container, mapping)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the rules contain the reference's rule for each port.
fn is_led(rules: &[RuleInfo], container: &Container, mapping: &Mapping) -> bool {
    let daddr = IpFamily::of(container.address).choose(Field::IP_DADDR, Field::IP6_DADDR);
    (mapping.ports.0..=mapping.ports.1).all(|port| {
        let target = mapping.target + (port - mapping.ports.0);
        let rule = match mapping.address {
            Some(address) => Rule::new().is(daddr, Value::new().addr(address)),
            None => Rule::new(),
        };
        let wanted = rule
            .is(Field::L4PROTO, Value::new().proto(mapping.proto))
            .is(Field::DPORT, Value::new().port(port))
            .dnat(container.address, Some(target));
        rules.iter().any(|rule| same(&rule.exprs, wanted.exprs()))
    })
}
