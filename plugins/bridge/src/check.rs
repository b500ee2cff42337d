//! CHECK: computes ADD's plan again from its result, and verifies it.

use attach::{VethMtu, previous_mac};
use cni::{AddResult, Error, Interface, Request};
use host::Owner;
use host::piece::Kernel;
use netlink::Netlink;

use crate::answer::Links;
use crate::config::Config;
use crate::plan::{self, Facts};

/// Verifies everything that ADD created; the error names every drift.
pub fn check(request: &Request, config: &Config, kernel: &mut Kernel, owner: &Owner) -> Result<(), Error> {
    let result = request.prev_result()?.ok_or_else(|| Error::internal("Required prevResult missing"))?;
    let links = links(request, config, owner, &result, kernel.host())?;
    let mtu = config.mtu.and_then(VethMtu::fixed);
    let facts = Facts { owner, links: &links, mtu, vlan_port: plan::vlan_port(config) };
    let plan = plan::plan(config, &facts, &result);
    attach::refuse_drift(owner, &attach::drifts("bridge", &plan, kernel, owner)?)
}

/// The links of the result.
fn links(
    request: &Request,
    config: &Config,
    owner: &Owner,
    result: &AddResult,
    host: &Netlink,
) -> Result<Links, Error> {
    let on_host = |link: &&Interface| link.sandbox.as_deref().unwrap_or_default().is_empty();
    let bridge = result.interfaces.iter().find(|link| link.name == config.bridge).filter(on_host);
    let bridge = bridge.ok_or_else(|| {
        Error::internal(format!("Interface name {} not found in prevResult", config.bridge))
    })?;
    let container = attach::container_link(request, result)?;
    let vlan_link = config.vlan_link().unwrap_or_default();
    let host_veth = attach::host_veth(owner, result, host, &[&config.bridge, &vlan_link]);
    let host_veth = host_veth.ok_or_else(|| {
        Error::internal(format!("CNI veth created for bridge {} was not found", config.bridge))
    })?;
    Ok(Links {
        bridge_mac: previous_mac(bridge)?,
        host_veth: host_veth.name.clone(),
        host_mac: previous_mac(host_veth)?,
        ifname: owner.ifname.clone(),
        container_mac: previous_mac(container)?,
        netns: request.netns.clone(),
        vlan_mac: None,
    })
}
