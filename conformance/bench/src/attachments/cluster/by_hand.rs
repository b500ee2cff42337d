//! What people make by hand on two hosts: a VXLAN device between them, and a subnet of each host
//! that is routed through one, as flannel does.

use std::net::IpAddr;

use anyhow::{Context, Result};
use harness::cluster::host::Host;
use harness::ip;
use harness::namespace::inside;

/// A way from one namespace to an address in another.
pub struct Way {
    /// Who made it.
    pub name: &'static str,
    /// The namespaces at its ends.
    pub ends: [String; 2],
    /// The address of the second end.
    pub to: String,
}

/// A VXLAN device in each of the two hosts' own namespaces.
pub fn vxlan(hosts: [&Host; 2]) -> Result<Way> {
    for (nth, (host, other)) in (1..).zip([(hosts[0], hosts[1]), (hosts[1], hosts[0])]) {
        ip::script(
            Some(&host.name),
            &format!(
                "link add hand0 type vxlan id 77 dstport 4790 local {} remote {} dev eth0
                 addr add 10.77.0.{nth}/24 dev hand0
                 link set hand0 up",
                host.address, other.address
            ),
        )?;
    }
    let ends = [hosts[0].name.clone(), hosts[1].name.clone()];
    Ok(Way { name: "VXLAN by hand", ends, to: "10.77.0.2".into() })
}

/// A container on each of the two hosts, behind a bridge with a subnet of the host's own.
pub fn routed(hosts: [&Host; 2]) -> Result<Way> {
    let mut ends = vec![];
    for (nth, host) in (1..).zip(hosts) {
        ends.push(subnet(nth, host)?);
    }
    let mac = |host: &Host| -> Result<String> {
        let row = ip::link(Some(&host.name), "routed0")?.context("no routed0")?;
        Ok(row["address"].as_str().context("routed0 has no address")?.to_owned())
    };
    for (nth, host, other) in [(2, hosts[0], hosts[1]), (1, hosts[1], hosts[0])] {
        let far = mac(other)?;
        ip::script(
            Some(&host.name),
            &format!(
                "route add 10.78.{nth}.0/24 via 10.78.{nth}.0 dev routed0 onlink
                 neigh add 10.78.{nth}.0 lladdr {far} dev routed0 nud permanent"
            ),
        )?;
        let IpAddr::V4(to) = other.address else { unreachable!("hosts have IPv4 addresses") };
        let (host, to) = (host.name.as_str(), to.to_string());
        let entry = ["-n", host, "fdb", "append", &far, "dev", "routed0", "dst", &to, "self", "permanent"];
        ip::output("bridge", &entry)?;
    }
    let ends = ends.try_into().map_err(|_| anyhow::anyhow!("two ends"))?;
    Ok(Way { name: "routed by hand", ends, to: "10.78.2.2".into() })
}

/// The host's side; returns the namespace of its container.
fn subnet(nth: u8, host: &Host) -> Result<String> {
    let guest = host.container("routed")?;
    inside(&host.name, || Ok(std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?))?;
    ip::script(
        Some(&host.name),
        &format!(
            "link add routed0 type vxlan id 78 dstport 8472 local {} dev eth0 nolearning
             addr add 10.78.{nth}.0/32 dev routed0
             link set routed0 up
             link add routedbr type bridge
             addr add 10.78.{nth}.1/24 dev routedbr
             link set routedbr mtu 1450 up
             link add routedport mtu 1450 type veth peer name routedpeer mtu 1450
             link set routedport master routedbr up",
            host.address
        ),
    )?;
    host.inside(|| {
        let target = format!("/run/netns/{}", guest.id);
        ip::output("ip", &["link", "set", "routedpeer", "netns", &target, "name", "eth0"]).map(drop)
    })?;
    ip::script(
        Some(&guest.ns),
        &format!(
            "addr add 10.78.{nth}.2/24 dev eth0
             link set eth0 up
             route add default via 10.78.{nth}.1"
        ),
    )?;
    Ok(guest.ns)
}
