//! portmap and bridge on hosts without a feature that they do not need, or do not need yet.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::{bridged, expect, portmap, serve};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::portmap_iptables::saved;

pub const CASES: &[Case] = &[
    Case::new("portmap/add_succeeds_before_the_host_has_the_address", &["PM-R7"], |room| {
        later_address(room, "nftables")
    }),
    Case::new("portmap_iptables/add_succeeds_before_the_host_has_the_address", &["PM-R7"], |room| {
        later_address(room, "iptables")
    })
    .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/an_ipv4_only_host_needs_no_ip6tables", &["PM-R8"], without_ip6tables)
        .needs(&[Need::Iptables]),
];

/// The addresses come and go, as those of VRRP and of clouds do; the rules exist before and after.
fn later_address(room: &Room, backend: &str) -> Result<()> {
    room.outside(&[])?;
    let (container, previous) = bridged(room, "c1")?;
    serve(room, "c1", 80)?;
    let later = [("198.51.100.77", "32"), ("2001:db8:ff::77", "128")];
    let mappings: Vec<_> =
        later.iter().map(|(ip, _)| json!({"hostPort": 8080, "containerPort": 80, "hostIP": ip})).collect();
    let config = with(&portmap(json!(mappings), &previous), json!({"backend": backend}));
    let attach = |verb| room.attach("portmap", verb, &container).config(&config).run();
    let add = attach("ADD")?;
    let log = add.stderr.clone();
    add.result()?;
    for (ip, _) in later {
        let lines = log.lines().filter(|line| line.contains(ip)).count();
        ensure!(lines == 1, "{lines} lines of standard error name {ip}: {log:?}");
    }
    attach("CHECK")?.silent()?;
    for (ip, length) in later {
        ip::run(&["addr", "add", &format!("{ip}/{length}"), "dev", "wan0", "nodad"])?;
    }
    for ((ip, _), outside) in later.iter().zip(OUTSIDE) {
        expect(room, Some("outside"), ip, 8080, &format!("c1:80 {outside}"))?;
    }
    attach("DEL")?.silent()
}

/// bridge and portmap, both with iptables, with IPv4 addresses only.
fn without_ip6tables(room: &Room) -> Result<()> {
    let bin = room.scratch("v4-only");
    fs::create_dir_all(&bin)?;
    for name in ["iptables-save", "iptables-restore"] {
        let path = ip::output("sh", &["-c", &format!("readlink -f $(command -v {name})")])?;
        fs::copy(path.trim(), bin.join(name))?;
    }
    let container = room.container("c1")?;
    let mut network = with(&bridge(USUAL), json!({"ipMasq": true, "ipMasqBackend": "iptables"}));
    network["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/24"}]]);
    let call = |plugin: &str, verb: &str, config: &Value| {
        room.attach(plugin, verb, &container).config(config).env("PATH", &bin).run()
    };
    let hidden = Hidden::by(&bin)?;
    let previous = call("bridge", "ADD", &network)?.result()?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80}]);
    let ports = with(&portmap(ports, &previous), json!({"backend": "iptables"}));
    let attached = with(&network, json!({"prevResult": previous}));
    call("portmap", "ADD", &ports)?.result()?;
    for (plugin, config) in [("bridge", &attached), ("portmap", &ports)] {
        let status = with(config, json!({"cniVersion": "1.1.0", "prevResult": null}));
        room.call(plugin, "STATUS").config(&status).env("PATH", &bin).run()?.silent()?;
        call(plugin, "CHECK", config)?.silent()?;
    }
    call("portmap", "DEL", &ports)?.silent()?;
    call("bridge", "DEL", &attached)?.silent()?;
    // The programs of a family with an address are missing, so the error names them.
    let both = with(&bridge(USUAL), json!({"ipMasq": true, "ipMasqBackend": "iptables"}));
    let error = call("bridge", "ADD", &both)?.error()?;
    ensure!(error.to_string().contains("ip6tables"), "{error}");
    drop(hidden);
    ensure!(!saved()?.contains("CNI-DN-"), "left: {}", saved()?);
    Ok(())
}

/// Puts another directory before that of the administrative programs.
struct Hidden;

const PROGRAMS: &str = "/usr/sbin";

impl Hidden {
    fn by(dir: &Path) -> Result<Self> {
        mount(Some(dir), PROGRAMS, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        umount2(PROGRAMS, MntFlags::MNT_DETACH).ok();
    }
}
