//! Unmeasured published ports: as ADDs of ours create them, or as the reference's rules would be.
//!
//! The reference runs some programs for each port, which takes longer with each: ten thousand would
//! take too long. So its rules are loaded at once, as text, in the form that its ADDs of one port
//! each leave.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::config::USUAL;
use serde_json::{Value, json};

use super::contender::Contender;
use super::scenario::{MEASURED, address, network};
use super::shot::Shot;

/// The first host port; the next is two further, so that no two form a range.
const FIRST: u16 = 10_000;
const STEP: u16 = 2;

/// Ports of ours that one ADD publishes.
pub const BATCH: u16 = 1000;

/// The unmeasured host ports.
fn host_ports(count: u16) -> impl Iterator<Item = u16> {
    (0..count).map(|number| FIRST + number * STEP)
}

/// The address of the container behind one of them: at the far end of the range of leases.
fn behind(slot: u8, number: u16) -> Ipv4Addr {
    address(slot, 50_000 + number)
}

/// Publishes that many with our plugins, [`BATCH`] per ADD.
pub fn publish(contender: &Contender, count: u16) -> Result<()> {
    let ports: Vec<u16> = host_ports(count).collect();
    for (batch, ports) in (0..).zip(ports.chunks(usize::from(BATCH))) {
        let mappings: Vec<Value> = ports
            .iter()
            .map(|port| json!({"hostPort": port, "containerPort": MEASURED.1, "protocol": "tcp"}))
            .collect();
        let previous = json!({"cniVersion": USUAL, "interfaces": [{"name": "eth0", "sandbox": "/run/netns/other"}],
            "ips": [{"address": format!("{}/16", behind(contender.slot, batch)), "interface": 0}]});
        let config = json!({"cniVersion": USUAL, "name": network(contender.slot), "type": "portmap",
            "capabilities": {"portMappings": true}, "prevResult": previous,
            "runtimeConfig": {"portMappings": mappings}});
        let id = format!("other{batch}");
        let env = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", &id),
            ("CNI_NETNS", "/run/netns/other"),
            ("CNI_IFNAME", "eth0"),
        ];
        let shot = Shot {
            program: contender.dir.join("portmap"),
            env: env
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .chain([("CNI_PATH".into(), contender.dir.clone().into())])
                .collect(),
            input: config.to_string(),
            tag: id.clone(),
        };
        shot.fire().with_context(|| format!("publish {} ports", ports.len()))?;
    }
    Ok(())
}

/// A mapping: the host port and its destination.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// At any address of the host.
    pub host_port: u16,
    /// The container's address.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
}

/// The unmeasured mappings, as if of one container each.
pub fn others(slot: u8, count: u16) -> Vec<Mapping> {
    (0..)
        .zip(host_ports(count))
        .map(|(number, host_port)| Mapping { host_port, address: behind(slot, number), port: MEASURED.1 })
        .collect()
}

/// Loads them, in this order, in the form of the reference's iptables back end.
pub fn load_iptables(mappings: &[Mapping], subnet: &str) -> Result<()> {
    let mut text = String::from("*nat\n");
    let chain = |number: usize| format!("CNI-DN-{number:021x}");
    for name in ["CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-DNAT"] {
        writeln!(text, ":{name} - [0:0]")?;
    }
    for number in 0..mappings.len() {
        writeln!(text, ":{} - [0:0]", chain(number))?;
    }
    text.push_str(
        "-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
         -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT\n\
         -A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
         -A CNI-HOSTPORT-SETMARK -m comment --comment \"CNI portfwd masquerade mark\" -j MARK --set-xmark 0x2000/0x2000\n\
         -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\n",
    );
    for (number, mapping) in mappings.iter().enumerate() {
        let Mapping { host_port, address, port } = mapping;
        let chain = chain(number);
        writeln!(
            text,
            "-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment \"dnat name: \\\"bench\\\" id: \\\"{number}\\\"\" \
             -m multiport --dports {host_port} -j {chain}\n\
             -A {chain} -s {subnet} -p tcp -m tcp --dport {host_port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -s 127.0.0.1/32 -p tcp -m tcp --dport {host_port} -j CNI-HOSTPORT-SETMARK\n\
             -A {chain} -p tcp -m tcp --dport {host_port} -j DNAT --to-destination {address}:{port}"
        )?;
    }
    text.push_str("COMMIT\n");
    fed("iptables-restore", &["--noflush"], &text)
}

/// The same for its nftables back end.
pub fn load_nftables(mappings: &[Mapping]) -> Result<()> {
    let mut text = String::from(
        "table ip cni_hostport {\n\
         chain hostip_hostports {}\nchain hostports {\n",
    );
    for (number, Mapping { host_port, address, port }) in mappings.iter().enumerate() {
        writeln!(text, "tcp dport {host_port} dnat to {address}:{port} comment \"{number}\"")?;
    }
    text.push_str(
        "}\nchain hostports_all { jump hostip_hostports; jump hostports; }\n\
         chain prerouting { type nat hook prerouting priority -100; fib daddr type local jump hostports_all; }\n\
         chain output { type nat hook output priority -100; fib daddr type local jump hostports_all; }\n\
         chain masquerading { type nat hook postrouting priority 100;\n",
    );
    for (number, Mapping { address, .. }) in mappings.iter().enumerate() {
        for from in [address.to_string().as_str(), "127.0.0.1"] {
            writeln!(text, "ip saddr {from} ip daddr {address} masquerade comment \"{number}\"")?;
        }
    }
    text.push_str("}\n}\n");
    fed("nft", &["-f", "-"], &text)
}

/// Runs a program that reads rules.
pub fn fed(program: &str, args: &[&str], text: &str) -> Result<()> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program} (is it installed?)"))?;
    child.stdin.take().context("standard input is a pipe")?.write_all(text.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "{program} rejected the rules: {status}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_ports_are_as_many_elements() {
        let ports: Vec<u16> = host_ports(10_000).collect();
        assert!(ports.windows(2).all(|pair| pair[1] > pair[0] + 1));
        assert!(ports.len() == 10_000 && !ports.contains(&MEASURED.0));
    }

    #[test]
    fn every_container_has_an_address_of_its_own() {
        let mut addresses: Vec<Ipv4Addr> =
            others(0, 10_000).into_iter().map(|mapping| mapping.address).collect();
        addresses.dedup();
        assert_eq!(addresses.len(), 10_000);
    }
}
