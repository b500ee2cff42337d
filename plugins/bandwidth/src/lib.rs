//! `bandwidth`: keeps the packets to and from a container to a rate, at the host's end of its veth
//! pair. A chained plugin.

mod config;
mod plan;
#[cfg(test)]
mod tests;

use attach::{owner, removal};
use cni::{AddResult, Error, Interface, Plugin, Request, ValidAttachments, Version};
use host::Owner;
use host::piece::{self, Directions, Feature, HostEnd, Kernel, Making, Packets, Place};
use netlink::{Link, Netlink};
use sys::NetNs;

pub use crate::config::{Config, KEYS};
use crate::plan::Facts;

/// The plugin.
pub struct Bandwidth;

impl Plugin for Bandwidth {
    const NAME: &'static str = "bandwidth";
    const ABOUT: &'static str = "keeps the packets to and from a container to a rate";
    const VERSIONS: &'static [Version] =
        &[Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let mut result = previous(request, "must be called as chained plugin")?;
        result.convertible_to(request.version)?;
        if config.is_empty() {
            return Ok(result);
        }
        let owner = owner(request);
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let veth = host_end(&kernel, &request.ifname)?;
        let facts = facts(&config, &kernel, &owner, &veth)?;
        let unshaped =
            Directions { to_container: config.ingress.is_none(), from_container: config.egress.is_none() };
        piece::delete_shaping_of(kernel.host(), &owner, veth.index, unshaped)?;
        let making = Making::begin(&mut kernel, &plan::plan(&config, &facts))?;
        if config.egress.is_some() {
            let ifb = making.kernel().link(Place::Host, &facts.ifb)?;
            let mac = ifb.mac.map(|mac| mac.to_string());
            result.interfaces.retain(|link| link.name != ifb.name);
            result.interfaces.push(Interface { name: ifb.name, mac, ..Interface::default() });
        }
        making.keep();
        Ok(result)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        previous(request, "must be called as a chained plugin")?;
        if config.is_empty() {
            return Ok(());
        }
        let owner = owner(request);
        let mut kernel = Kernel::open(NetNs::open(&request.netns)?)?;
        let veth = host_end(&kernel, &request.ifname)?;
        let facts = facts(&config, &kernel, &owner, &veth)?;
        let drifts = piece::verify(&plan::plan(&config, &facts), &mut kernel)?;
        attach::refuse_drift(&owner, &drifts)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        let netns = NetNs::open_if_there(&request.netns)?;
        Ok(piece::delete_shaping(&Netlink::open()?, &removal(request), netns.as_ref())?)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
        let owners = attach::valid_owners(request, valid);
        Ok(piece::delete_shaping_but(&Netlink::open()?, &request.network, &owners)?)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        let discipline = match config.packets {
            Packets::All => "tbf",
            Packets::Only(_) | Packets::AllBut(_) => "htb",
        };
        let mut features = vec![Feature::Links("ifb"), Feature::Discipline(discipline)];
        if config.fq_codel {
            features.push(Feature::Discipline("fq_codel"));
        }
        attach::require(&Netlink::open()?, &features)
    }
}

fn previous(request: &Request, refusal: &str) -> Result<AddResult, Error> {
    request.prev_result()?.ok_or_else(|| Error::invalid_config(refusal).details("there is no prevResult"))
}

fn facts<'o>(config: &Config, kernel: &Kernel, owner: &'o Owner, veth: &Link) -> Result<Facts<'o>, Error> {
    let ifb = match config.egress {
        Some(_) => piece::choose_ifb(kernel.host(), owner, veth.index)?,
        None => String::new(),
    };
    Ok(Facts { owner, veth: veth.name.clone(), mtu: veth.mtu, ifb })
}

/// The host's end of the container's pair.
fn host_end(kernel: &Kernel, ifname: &str) -> Result<Link, Error> {
    match piece::host_end(kernel, ifname)? {
        HostEnd::Link(link) => Ok(*link),
        HostEnd::Elsewhere(index) => {
            Err(Error::internal(format!("veth peer with index {index} is not in host ns")))
        }
        HostEnd::NoInterface => {
            Err(Error::internal(format!("container interface {ifname} has no veth peer: Link not found")))
        }
        HostEnd::NoPair(kind) => {
            let kind = kind.unwrap_or_else(|| "device of the host".into());
            Err(Error::internal(format!("container interface {ifname} has no veth peer: it is a {kind}")).details(
                "a rate needs the host's end of a pair: attach the container by bridge or ptp, or leave bandwidth out",
            ))
        }
    }
}
