//! A service as flags of `podman run` and `nerdctl run`.

use std::net::IpAddr;

use super::plan::{PlannedMember, PlannedService, Remarks};
use super::services::Service;

/// The flags of `podman run`. It takes what belongs to a network with the network.
pub fn podman(service: &PlannedService) -> Vec<String> {
    let mut flags = start(service);
    for member in &service.networks {
        let options = options(service, member).join(",");
        let network = &member.network;
        flags.push("--network".into());
        flags.push(if options.is_empty() { network.clone() } else { format!("{network}:{options}") });
    }
    end(service, flags)
}

fn options(service: &PlannedService, member: &PlannedMember) -> Vec<String> {
    // podman knows the container's own name anyway.
    let aliases = member.names.iter().filter(|name| **name != service.container_name);
    let mut options: Vec<_> = aliases.map(|name| format!("alias={name}")).collect();
    for address in &member.addresses {
        options.push(match address {
            IpAddr::V4(address) => format!("ip={address}"),
            IpAddr::V6(address) => format!("ip6={address}"),
        });
    }
    options.extend(member.mac.iter().map(|mac| format!("mac={mac}")));
    options.extend(member.ifname.iter().map(|name| format!("interface_name={name}")));
    options
}

/// The flags of `nerdctl run`, which has addresses for a container on one network alone.
pub fn nerdctl(service: &PlannedService) -> Vec<String> {
    let mut flags = start(service);
    for member in &service.networks {
        flags.extend(["--network".into(), member.network.clone()]);
    }
    if service.network_mode.is_none() {
        // Its file of hosts has the host name beside the container's.
        flags.extend(["--hostname".into(), service.name.clone()]);
    }
    if let [member] = &service.networks[..] {
        for address in &member.addresses {
            let flag = if address.is_ipv4() { "--ip" } else { "--ip6" };
            flags.extend([flag.into(), address.to_string()]);
        }
        flags.extend(member.mac.iter().flat_map(|mac| ["--mac-address".into(), mac.clone()]));
    }
    end(service, flags)
}

fn start(service: &PlannedService) -> Vec<String> {
    let mut flags = vec!["--name".to_owned(), service.container_name.clone()];
    flags.extend(service.network_mode.iter().flat_map(|mode| ["--network".into(), mode.clone()]));
    flags
}

fn end(service: &PlannedService, mut flags: Vec<String>) -> Vec<String> {
    flags.extend(service.ports.iter().flat_map(|ports| ["-p".into(), ports.clone()]));
    flags
}

/// What these flags do not have.
pub fn remark(service: &Service, remarks: &mut Remarks<'_>) {
    let several = service.members.len() > 1;
    for member in &service.members {
        let path = |key: &str| format!("services.{}.networks.{}.{key}", service.name, member.network);
        if member.aliases.iter().any(|alias| *alias != service.name) {
            let reason = "it has no aliases";
            remarks.of_runtime(member.at, path("aliases"), "nerdctl", reason);
        }
        if let Some((_, at)) = &member.gw_priority {
            let reason = "it has no flag for it; \"moor network connect --gw-priority\" does it";
            remarks.of_runtime(*at, path("gw_priority"), "podman", reason);
            remarks.of_runtime(*at, path("gw_priority"), "nerdctl", reason);
        }
        if let Some((_, at)) = &member.ifname {
            remarks.of_runtime(*at, path("interface_name"), "nerdctl", "it names interfaces itself");
        }
        if several {
            let reason = "it gives addresses only to a container on one network";
            if let Some((_, at)) = member.addresses.first() {
                remarks.of_runtime(*at, path("ipv4_address"), "nerdctl", reason);
            }
            if let Some((_, at)) = &member.mac {
                remarks.of_runtime(*at, path("mac_address"), "nerdctl", reason);
            }
        }
    }
}
