//! Networks of the tool and of podman, side by side: each shows, keeps and refuses the other's.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use engines::machine::{PAGE, PLUGINS, rootfs, suite};
use engines::podman::podman;
use harness::room::call::Call;
use harness::room::{Room, SCRATCH};
use harness::socket;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::Value;

use super::Steps;

const DIR: &str = "/etc/cni/net.d";
/// How many networks each makes in turns.
const TURNS: usize = 3;

/// A call of the tool, which a room with packages has at another place.
pub fn moor<'r>(room: &'r Room, words: &[&str]) -> Call<'r> {
    Call::new(room, suite().join("moor")).argv(words).env("CNI_PATH", PLUGINS)
}

/// Whether the suite has the tool.
pub fn has_tool() -> bool {
    suite().join("moor").is_file()
}

pub fn steps(room: &Room, steps: &mut Steps) {
    let tool = |words: &str| -> Result<String> {
        let words: Vec<&str> = ["network"].into_iter().chain(words.split_whitespace()).collect();
        let answer = moor(room, &words).run()?;
        ensure!(answer.succeeded(), "moor {words:?}: {}", answer.summary());
        Ok(String::from_utf8(answer.stdout)?)
    };
    steps.check("moor network create: podman lists and inspects them without a warning", || {
        tool("create shop --label team=shop --subnet 10.96.0.0/24 --ipv6 --aux-address nas=10.96.0.9 -o mtu=1400")?;
        tool("create shop-back --internal")?;
        tool("create shop-lan -d macvlan -o parent=wan0 --subnet 198.51.100.0/24 --ip-range 198.51.100.128/25")?;
        let shop = quiet(&["network", "inspect", "shop"])?;
        let id = id_of(&tool("inspect shop")?)?;
        for (pointer, expected) in [
            ("/0/id", Value::from(id)),
            ("/0/driver", "bridge".into()),
            ("/0/internal", false.into()),
            ("/0/ipv6_enabled", true.into()),
            ("/0/labels/team", "shop".into()),
            ("/0/subnets/0/subnet", "10.96.0.0/24".into()),
            ("/0/subnets/0/gateway", "10.96.0.1".into()),
            ("/0/options/mtu", "1400".into()),
        ] {
            ensure!(shop.pointer(pointer) == Some(&expected), "{pointer} is not {expected}: {shop:#}");
        }
        let back = quiet(&["network", "inspect", "shop-back"])?;
        ensure!(back.pointer("/0/internal") == Some(&true.into()), "not internal: {back:#}");
        let lan = quiet(&["network", "inspect", "shop-lan"])?;
        ensure!(lan.pointer("/0/driver") == Some(&"macvlan".into()), "not macvlan: {lan:#}");
        let names = quiet(&["network", "ls", "--format", "json"])?;
        let text = names.to_string();
        ensure!(["shop", "shop-back", "shop-lan"].iter().all(|name| text.contains(name)), "{text}");
        Ok(())
    });
    steps.check("podman runs on one: inspect shows the container, rm refuses", || {
        let root = rootfs().display().to_string();
        let run =
            ["run", "-d", "--name", "till", "--network", "shop", "--network-alias", "pay", "--rootfs", &root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat())?;
        let shop: Value = serde_json::from_str(&tool("inspect shop")?)?;
        let containers = shop[0]["Containers"].as_object().context("Containers")?;
        let till = containers.values().find(|one| one["Name"] == "till").context("till is not shown")?;
        let address = till["IPv4Address"].as_str().unwrap_or_default();
        ensure!(address.starts_with("10.96.0.") && address.ends_with("/24"), "{till:#}");
        let answer = moor(room, &["network", "rm", "shop"]).run()?;
        ensure!(answer.status.code() == Some(1) && answer.stderr.contains("till"), "{}", answer.summary());
        podman(&["rm", "-f", "-t", "0", "till"]).map(drop)
    });
    steps.check("podman network create: moor lists and inspects them", || {
        podman(&["network", "create", "-o", "isolate=true", "--label", "a=b", "pod-1"])?;
        podman(&["network", "create", "--internal", "pod-2"])?;
        let one: Value = serde_json::from_str(&tool("inspect pod-1 pod-2")?)?;
        let subnet = podman(&["network", "inspect", "-f", "{{(index .Subnets 0).Subnet}}", "pod-1"])?;
        ensure!(one[0]["IPAM"]["Config"][0]["Subnet"] == subnet.as_str(), "subnet {subnet}: {one:#}");
        ensure!(one[0]["Labels"]["a"] == "b" && one[0]["Internal"] == false, "{one:#}");
        ensure!(one[1]["Internal"] == true, "pod-2 is not internal: {one:#}");
        Ok(())
    });
    steps.check("moor run on podman's network reaches a container of podman", || {
        let root = rootfs().display().to_string();
        let run = ["run", "-d", "--name", "peer", "--network", "pod-1", "--rootfs", &root];
        podman(&[&run[..], &["/bin/httpd", "-f", "-p", "80", "-h", "/www"]].concat())?;
        let format = "{{(index .NetworkSettings.Networks \"pod-1\").IPAddress}}";
        let page = format!("http://{}/", podman(&["inspect", "-f", format, "peer"])?);
        let patience = socket::patience().as_secs().max(1).to_string();
        let curl = ["curl", "-sS", "--retry", "5", "--retry-connrefused", "--max-time", &patience, &page];
        let answer = moor(room, &[&["run", "--network", "pod-1", "--"], &curl[..]].concat()).run()?;
        ensure!(answer.succeeded() && answer.stdout.ends_with(PAGE.as_bytes()), "{}", answer.summary());
        podman(&["rm", "-f", "-t", "0", "peer"]).map(drop)
    });
    steps.check("each refuses a subnet of the other, and in turns none overlap", || {
        ensure!(
            podman(&["network", "create", "--subnet", "10.96.0.0/25", "pod-x"]).is_err(),
            "podman took ours"
        );
        let theirs = podman(&["network", "inspect", "-f", "{{(index .Subnets 0).Subnet}}", "pod-1"])?;
        ensure!(tool(&format!("create mine --subnet {theirs}")).is_err(), "moor took podman's {theirs}");
        for n in 0..TURNS {
            podman(&["network", "create", &format!("turn-p{n}")])?;
            tool(&format!("create turn-{n}"))?;
        }
        let list: Value = serde_json::from_slice(&moor(room, &["--json", "network", "ls"]).run()?.stdout)?;
        let turns = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|item| item["name"].as_str().is_some_and(|name| name.starts_with("turn-")));
        let subnets: Vec<_> = turns.filter_map(|item| item["subnets"][0]["subnet"].as_str()).collect();
        let distinct: BTreeSet<_> = subnets.iter().collect();
        ensure!(subnets.len() == 2 * TURNS && distinct.len() == subnets.len(), "{subnets:?}");
        for n in 0..TURNS {
            podman(&["network", "rm", &format!("turn-p{n}")])?;
            tool(&format!("rm turn-{n}"))?;
        }
        Ok(())
    });
    steps.check("no list of ours is newer than 1.0.0, and it runs as 1.1.0 elsewhere", || {
        for entry in fs::read_dir(DIR)? {
            let path = entry?.path();
            let is_ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("moor-"));
            if is_ours {
                let list: Value = serde_json::from_slice(&fs::read(&path)?)?;
                ensure!(list["cniVersion"] == "1.0.0", "{}: {list:#}", path.display());
            }
        }
        let list = Conflist::load(DIR, "shop-back")?;
        ensure!(list.version == "1.1.0", "version {}", list.version);
        let runtime = runtime();
        runtime.status(&list)?;
        Ok(runtime.gc(&list, Some(&BTreeSet::new()))?)
    });
    steps.check("podman network rm of one that others use: they are shown, and can be detached", || {
        let list = Conflist::load(DIR, "shop-back")?;
        let container = room.container("left")?;
        let path = container.path.display().to_string();
        runtime().add(&list, &Attachment::new("left", path, "eth0"))?;
        podman(&["network", "rm", "shop-back"])?;
        ensure!(Conflist::load(DIR, "shop-back").is_err(), "podman has not removed it");
        let shown = moor(room, &["ps"]).run()?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        ensure!(text.contains("left") && text.contains("shop-back"), "{}", shown.summary());
        let answer = moor(room, &["network", "disconnect", "-f", "shop-back", "left"]).run()?;
        ensure!(answer.succeeded(), "disconnect: {}", answer.summary());
        let left = Path::new("/var/lib/cni/results/shop-back-left-eth0").exists();
        ensure!(!left, "the record is left");
        room.remove(&container)
    });
    steps.check("all are removed, each by either", || {
        podman(&["network", "rm", "shop-lan"])?;
        tool("rm shop pod-1 pod-2").map(drop)
    });
}

fn runtime() -> Runtime {
    Runtime { forward_stderr: false, ..Runtime::new(vec![suite()], "/var/lib/cni") }
}

/// The id of the only network that `inspect` printed.
fn id_of(text: &str) -> Result<String> {
    let all: Value = serde_json::from_str(text)?;
    Ok(all[0]["Id"].as_str().context("Id")?.to_owned())
}

/// What podman prints as JSON; a word on its standard error is a failure.
fn quiet(args: &[&str]) -> Result<Value> {
    let scratch = Path::new(SCRATCH);
    let done = Command::new("timeout")
        .args(["-k", "5", "60", "podman"])
        .args(args)
        .env("TMPDIR", "/tmp")
        .env("HOME", SCRATCH)
        .env("CONTAINERS_CONF", scratch.join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", scratch.join("storage.conf"))
        .output()
        .context("start podman")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success() && said.trim().is_empty(), "podman {args:?}: {}: {said}", done.status);
    serde_json::from_slice(&done.stdout).with_context(|| format!("podman {args:?}"))
}
