//! CHECK: computes ADD's plan again from its result, and verifies it.

use cni::{AddResult, Error, Interface, Request};
use host::intent::By;
use host::piece::{self, Kernel, Piece, Place};
use host::{Drift, Owner, rules};
use netlink::{Mac, Netlink};

use crate::answer::Links;
use crate::config::{Config, Mtu};
use crate::plan::{self, Facts};

/// Verifies everything that ADD created; the error names every drift.
pub fn check(request: &Request, config: &Config, kernel: &mut Kernel, owner: &Owner) -> Result<(), Error> {
    let result = request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
    let links = links(request, config, owner, &result, kernel.host())?;
    let mtu = match config.mtu {
        Some(Mtu::Bytes(mtu)) => Some(mtu),
        // Nothing to verify: the kernel's default and the link of the default route may change.
        None | Some(Mtu::Auto) => None,
    };
    let facts = Facts { owner, links: &links, mtu, vlan_port: plan::vlan_port(config) };
    attach::refuse_drift(owner, &drifts(&plan::plan(config, &facts, &result), kernel, owner)?)
}

/// The drifts of the attachment. Packet rules with a record are repaired instead: a runtime that
/// checks its containers when it starts must not take their addresses because a firewall was
/// restarted. Drifts of the host's parameters are only logged.
fn drifts(plan: &[Piece], kernel: &mut Kernel, owner: &Owner) -> Result<Vec<Drift>, Error> {
    let is_of_host =
        |piece: &&Piece| matches!(piece, Piece::Sysctls(sysctls) if sysctls.place == Place::Host);
    let is_rule =
        |piece: &&Piece| matches!(piece, Piece::Masquerade(_) | Piece::MacFilter(_) | Piece::FastPath(_));
    let is_fixed = |piece: &&Piece| matches!(piece, Piece::FixedMac(_));
    let of = |is: &dyn Fn(&&Piece) -> bool| plan.iter().filter(is).cloned().collect::<Vec<_>>();
    let rest = of(&|piece| !is_of_host(piece) && !is_rule(piece) && !is_fixed(piece));
    let mut drifts = piece::verify(&rest, kernel)?;
    // The port has no fixed MAC address if the reference created it, or if the bridge was changed.
    let fixed = of(&is_fixed);
    let unfixed = piece::verify(&fixed, kernel)?;
    if !unfixed.is_empty() {
        piece::apply(&fixed, kernel)?;
        report(owner, &unfixed, "made again");
    }
    let rules = of(&is_rule);
    let mut of_rules = piece::verify(&rules, kernel)?;
    if !of_rules.is_empty()
        && let Some(mended) = rules::mend(kernel.nft()?, By::Bridge, owner)?
    {
        report(owner, &of_rules, "made again");
        mended.report("bridge");
        of_rules = piece::verify(&rules, kernel)?;
    }
    drifts.append(&mut of_rules);
    report(owner, &piece::verify(&of(&is_of_host), kernel)?, "a parameter of the host, not changed");
    Ok(drifts)
}

fn report(owner: &Owner, drifts: &[Drift], what: &str) {
    for drift in drifts {
        eprintln!("bridge: CHECK of {} of container {}: {drift}: {what}", owner.ifname, owner.container_id);
    }
}

/// The links of the result.
fn links(
    request: &Request,
    config: &Config,
    owner: &Owner,
    result: &AddResult,
    host: &Netlink,
) -> Result<Links, Error> {
    let sandbox = |link: &Interface| link.sandbox.clone().unwrap_or_default();
    let on_host = |link: &&Interface| sandbox(link).is_empty();
    let find = |name: &str| result.interfaces.iter().find(|link| link.name == name);

    let bridge = find(&config.bridge).filter(on_host).ok_or_else(|| {
        Error::internal(format!("Interface name {} not found in prevResult", config.bridge))
    })?;
    let container =
        result.interfaces.iter().find(|link| link.name == owner.ifname && !sandbox(link).is_empty());
    let container = container
        .ok_or_else(|| Error::internal(format!("Interface name {} not found in prevResult", owner.ifname)))?;
    if sandbox(container) != request.netns {
        return Err(Error::internal(format!(
            "Sandbox in prevResult {} doesn't match configured netns: {}",
            sandbox(container),
            request.netns
        )));
    }
    let vlan_link = config.vlan_link();
    let is_ours = |link: &&Interface| owner.host_veth_names().any(|name| name == link.name);
    // The reference uses random names. Later plugins may have added links of the host to the
    // result: ours is a veth.
    let is_veth = |link: &&Interface| {
        link.name != config.bridge && Some(&link.name) != vlan_link.as_ref() && is_veth(host, &link.name)
    };
    let mut on_host_side = result.interfaces.iter().filter(on_host);
    let host_veth = on_host_side.clone().find(is_ours).or_else(|| on_host_side.find(is_veth));
    let host_veth = host_veth.ok_or_else(|| {
        Error::internal(format!("CNI veth created for bridge {} was not found", config.bridge))
    })?;
    let mac = |link: &Interface| {
        let mac: Option<Mac> = attach::mac_of(link.mac.as_deref());
        mac.ok_or_else(|| Error::internal(format!("prevResult has an invalid MAC address for {}", link.name)))
    };
    Ok(Links {
        bridge_mac: mac(bridge)?,
        host_veth: host_veth.name.clone(),
        host_mac: mac(host_veth)?,
        ifname: owner.ifname.clone(),
        container_mac: mac(container)?,
        netns: request.netns.clone(),
        vlan_mac: None,
    })
}

fn is_veth(host: &Netlink, name: &str) -> bool {
    matches!(host.link_by_name(name), Ok(Some(link)) if link.kind.as_deref() == Some("veth"))
}
