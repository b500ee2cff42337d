//! CHECK: computes ADD's plan again from its result, and verifies it.

use attach::{VethMtu, previous_mac};
use cni::{Error, Request};
use host::Owner;
use host::piece::Kernel;

use crate::answer::Links;
use crate::config::Config;
use crate::plan::{self, Facts};

/// Verifies everything that ADD created; the error names every drift.
pub fn check(request: &Request, config: &Config, kernel: &mut Kernel, owner: &Owner) -> Result<(), Error> {
    let result = request.prev_result()?.ok_or_else(|| Error::internal("ptp: Required prevResult missing"))?;
    let container = attach::container_link(request, &result)?;
    let host_veth = attach::host_veth(owner, &result, kernel.host(), &[]).ok_or_else(|| {
        Error::internal(format!("host end of the veth pair of {} not found in prevResult", owner.ifname))
    })?;
    let links = Links {
        host_veth: host_veth.name.clone(),
        host_mac: previous_mac(host_veth)?,
        container_mac: previous_mac(container)?,
        netns: request.netns.clone(),
    };
    let facts = Facts { owner, links: &links, mtu: config.mtu.and_then(VethMtu::fixed) };
    let plan = plan::plan(config, &facts, &result);
    attach::refuse_drift(owner, &attach::drifts("ptp", &plan, kernel, owner)?)
}
