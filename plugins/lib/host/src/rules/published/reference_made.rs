//! Ports that the reference's portmap published in its nftables back end, as CHECK looks at them: they are right,
//! whoever made them.

use nft::{Chain, Family, Field, Nft, Rule, RuleInfo, Table, Value, same};
use sys::{IpFamily, Result};

use crate::ports::{Container, Mapping, Publication};

/// Its ports of either kind.
const CHAINS: [&str; 2] = ["hostports", "hostip_hostports"];

/// Whether all ports of a publication are led to the container by the reference's rules.
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

/// The reference has a rule for each port.
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
