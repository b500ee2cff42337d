//! `moor ports` and `moor names`: who has which port, and which name.

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::kill_responder;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use crate::tool::case;
use crate::tool_views::{attach, items, list};

pub const CASES: &[Case] = &[
    case("tool/ports_has_each_kind_with_its_owner", &["T-032"], ports).needs(&[
        Need::Tool,
        Need::Reference,
        Need::Iptables,
    ]),
    case("tool/names_are_those_of_the_records", &["T-033"], names),
];

/// A process that has a listening socket, and nobody else.
struct Listening {
    process: Child,
    port: u16,
}

impl Listening {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("0.0.0.0:0")?;
        fcntl(listener.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
        let process = Command::new("sleep").arg("60").spawn().context("start sleep")?;
        Ok(Self { process, port: listener.local_addr()?.port() })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn ports(room: &Room) -> Result<()> {
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let bridge = |name: &str| json!({"type": "bridge", "bridge": name, "isGateway": true});
    let mapping = |port: u16| {
        let one = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
        json!({"capabilities": {"portMappings": [one]}})
    };
    let ours = list("ours", "10.182.1.0/24", &bridge("ports0"), std::slice::from_ref(&portmap))?;
    attach(&room.suite, &ours, &room.container("ports-ours")?, &mapping(8081))?;
    let theirs = list("theirs", "10.182.2.0/24", &bridge("ports1"), std::slice::from_ref(&portmap))?;
    attach(&room.reference, &theirs, &room.container("ports-theirs")?, &mapping(8082))?;
    // Its nftables back end, which the oldest releases do not have.
    let third = list("third", "10.182.3.0/24", &bridge("ports2"), &[])?;
    let result = attach(&room.reference, &third, &room.container("ports-third")?, &json!({}))?;
    let address = result["ips"][0]["address"].as_str().unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default();
    let any = format!("tcp dport 8083 dnat to {address}:80 comment \"ports-third\";");
    let at = format!("ip daddr 192.0.2.1 udp dport 53 dnat to {address}:53 comment \"ports-third\";");
    let chains = format!("chain hostports {{ {any} }}; chain hostip_hostports {{ {at} }};");
    let rules = format!("table ip cni_hostport {{ {chains} }}");
    harness::ip::output("nft", &[&rules])?;
    let plain = Listening::start()?;
    let proxy = Listening::start()?;
    let id = "4d266b15d06e4d266b15d06e4d266b15d06e4d266b15d06e4d266b15d06eabcd";
    let cgroup = room.write("cgroup", format!("0::/machine.slice/libpod-{id}.scope\n"))?;
    let shown = format!("/proc/{}/cgroup", proxy.process.id());
    mount(Some(&cgroup), shown.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context("show another cgroup of the process")?;

    let all = items(room, &["ports"], 0)?;
    let of = |port: u16| -> Result<&Value> {
        let found: Vec<_> = all.iter().filter(|item| item["port"] == port).collect();
        ensure!(found.len() == 1, "{port}: {found:?} of {all:?}");
        Ok(found[0])
    };
    for (port, by, id, network) in [
        (8081, "moor", "ports-ours", "ours"),
        (8082, "portmap (iptables-nft)", "ports-theirs", "theirs"),
        (8083, "portmap (nft)", "ports-third", "third"),
    ] {
        let item = of(port)?;
        ensure!(item["by"] == by && item["containerId"] == id && item["network"] == network, "{item}");
        ensure!(
            item["protocol"] == "tcp" && item["toPort"] == 80 && item.get("conflict").is_none(),
            "{item}"
        );
    }
    ensure!(of(8083)?["to"] == address && of(53)?["address"] == "192.0.2.1", "{all:?}");
    let (plain_item, proxy_item) = (of(plain.port)?, of(proxy.port)?);
    ensure!(plain_item["by"] == "socket" && plain_item["program"] == "sleep", "{plain_item}");
    ensure!(
        plain_item["pid"] == plain.process.id() && plain_item.get("containerId").is_none(),
        "{plain_item}"
    );
    ensure!(proxy_item["containerId"] == id && proxy_item["runtime"] == "podman", "{proxy_item}");

    // Somebody else listens at a port that a container has.
    let _taken = TcpListener::bind("0.0.0.0:8081")?;
    let all = items(room, &["ports"], 1)?;
    let conflict = all.iter().filter(|item| item["port"] == 8081 && item["conflict"] == true).count();
    ensure!(conflict == 2, "{all:?}");
    Ok(())
}

fn names(room: &Room) -> Result<()> {
    let dns = json!({"type": "dns", "capabilities": {"aliases": true}});
    let bridge = json!({"type": "bridge", "bridge": "names0", "isGateway": true});
    let list = list("names", "10.182.4.0/24", &bridge, &[dns])?;
    for (id, alias) in [("names-1", "www"), ("names-2", "db")] {
        let keys = json!({"args": {"IgnoreUnknown": "1", "K8S_POD_NAME": format!("pod-{alias}")},
            "capabilities": {"aliases": {"names": [alias]}}});
        attach(&room.suite, &list, &room.container(id)?, &keys)?;
    }
    let mut expected = Vec::new();
    let dir = fs::read_dir("/run/moor/dns")?.next().context("no state directory")??.path();
    for entry in fs::read_dir(dir.join("net/names/att"))? {
        let record: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        for name in record["names"].as_array().into_iter().flatten() {
            expected.push((name.clone(), record["ips"].clone(), record["container"].clone()));
        }
    }
    let key = |item: &Value| (item["name"].clone(), item["addresses"].clone(), item["containerId"].clone());
    let mut shown: Vec<_> = items(room, &["names"], 0)?.iter().map(key).collect();
    let sort = |all: &mut Vec<(Value, Value, Value)>| all.sort_by_key(|(name, ..)| name.to_string());
    sort(&mut shown);
    sort(&mut expected);
    ensure!(shown == expected && shown.len() >= 4, "{shown:?} instead of {expected:?}");
    let asked = items(room, &["names", "--ask"], 0)?;
    ensure!(asked.iter().all(|item| item["answer"]["agrees"] == true), "{asked:?}");

    // A responder that is gone answers nothing.
    kill_responder()?;
    let asked = items(room, &["names", "--ask"], 1)?;
    ensure!(asked.iter().all(|item| item["answer"]["agrees"] == false), "{asked:?}");
    Ok(())
}
