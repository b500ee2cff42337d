//! The device on the host, and whether it may be taken.

use std::path::Path;

use cni::Error;
use host::Owner;
use netlink::{Link, Netlink};

use crate::config::Config;
use crate::device::Device;
use crate::sysfs::Sysfs;

/// Finds the device that the configuration names.
pub fn device(host: &Netlink, config: &Config, owner: &Owner) -> Result<Link, Error> {
    let link = match &config.device {
        Device::Mac(mac) => {
            let links = host.links()?;
            links.into_iter().find(|link| link.mac == Some(*mac)).ok_or_else(|| {
                Error::internal("failed to find host device: failed to find physical interface")
            })?
        }
        Device::Name(name) => match host.link_by_name(name)? {
            Some(link) => link,
            None => {
                // The kernel may have returned it under another name.
                host::device::adopt_on_host(host, owner, name)?;
                host.link_by_name(name)?.ok_or_else(|| missing(name))?
            }
        },
        device => {
            let name = Sysfs::new(Path::new("/sys")).link_name(device)?;
            host.link_by_name(&name)?.ok_or_else(|| missing(&name))?
        }
    };
    refuse_unfit(host, config, &link)?;
    Ok(link)
}

fn missing(name: &str) -> Error {
    let holder = match host::device::holder(name) {
        Ok(Some(Owner { network, container_id, ifname })) => {
            format!("interface {ifname} of container {container_id} (network {network}) has it")
        }
        _ => "Link not found".into(),
    };
    Error::internal(format!("failed to find host device: {name:?}: {holder}"))
}

/// Refuses a link that cannot be moved, or that the host cannot do without.
fn refuse_unfit(host: &Netlink, config: &Config, link: &Link) -> Result<(), Error> {
    let refused = |why: String| Err(Error::internal(format!("device {:?} is not taken: {why}", link.name)));
    if link.loopback() {
        return refused("a loopback link cannot leave its network namespace".into());
    }
    if let Some(master) = link.master {
        let master = host.link_by_index(master)?.map_or_else(|| master.to_string(), |link| link.name);
        return refused(format!("it is a port of {master:?}, which would lose it; release it first"));
    }
    if config.take_default_route {
        return Ok(());
    }
    let uplinks = host.uplinks_by_family()?;
    match ["IPv4", "IPv6"].into_iter().zip(uplinks).find(|(_, links)| *links == [link.index]) {
        None => Ok(()),
        Some((family, _)) => refused(format!(
            "it has the host's only default route of {family}; \"takeDefaultRoute\": true takes it nevertheless"
        )),
    }
}
