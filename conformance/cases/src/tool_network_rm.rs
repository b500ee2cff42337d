//! `moor network inspect`, `rm` and `prune`: who uses a network, and what goes with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::diff::shown;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::conflists::runtime;
use runtime::{Attachment, Conflist};
use serde_json::Value;

use crate::tool::case;
use crate::tool_network::{DIR, bridge, done, network, refused, write};

pub const CASES: &[Case] = &[
    case("tool/a_created_network_attaches_and_rm_leaves_nothing", &["T-011"], |room| {
        whole_life(room, &["", "--internal", "--ipv6 -o mtu=1400 -o icc=false"])
    }),
    case("tool/a_created_macvlan_network_attaches_and_rm_leaves_nothing", &["T-011"], |room| {
        whole_life(room, &["-d macvlan -o parent=wan0"])
    })
    .needs(&[Need::Tool, Need::Macvlan]),
    case("tool/rm_names_who_uses_the_network_and_the_gone_never_keep_it", &["T-016"], in_use),
    case("tool/rm_keeps_a_bridge_that_others_use", &["T-016"], shared_bridge),
    case("tool/rm_and_prune_touch_nothing_of_a_cluster", &["T-017"], clusters),
    case("tool/inspect_shows_the_containers_of_every_runtime", &["T-018"], inspected),
    case("tool/files_of_nerdctl_are_listed_and_keep_their_marks", &["T-027"], of_nerdctl),
    case("tool/files_of_clusters_are_listed_and_not_changed", &["T-028"], samples),
];

/// linux/proc_ns.h, PROC_PID_INIT_INO: the inode of the initial pid namespace.
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Adds a container as cnitool does: with a record.
pub fn attach(room: &Room, name: &str, id: &str) -> Result<Container> {
    let list = Conflist::load(DIR, name)?;
    let container = room.container(id)?;
    let attachment = Attachment::new(id, container.path.display().to_string(), "eth0");
    let mut runtime = runtime(room);
    runtime.timeout = on_this_machine(runtime.timeout);
    runtime.add(&list, &attachment).with_context(|| format!("ADD of {id}"))?;
    Ok(container)
}

/// What `ip` prints in a container.
fn inside(id: &str, words: &[&str]) -> Result<String> {
    ip::output("ip", &[&["-n", id], words].concat())
}

/// Deletes it again.
pub fn detach(room: &Room, name: &str, container: &Container) -> Result<()> {
    let list = Conflist::load(DIR, name)?;
    let attachment = Attachment::new(&container.id, container.path.display().to_string(), "eth0");
    Ok(runtime(room).del(&list, &attachment)?)
}

fn whole_life(room: &Room, all: &[&str]) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", harness::namespace::OUTSIDE[0]])?;
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let before = room.snapshot()?;
    for flags in all {
        done(room, &format!("create front --subnet 10.90.7.0/24 {flags}"))?;
        let one = attach(room, "front", "c1").with_context(|| (*flags).to_owned())?;
        let own = inside(&one.id, &["-4", "-o", "addr", "show", "eth0"])?;
        ensure!(own.contains("10.90.7.2/24"), "{flags}: {own}");
        let routes = inside(&one.id, &["route"])?;
        ensure!(routes.contains("default") != flags.contains("internal"), "{flags}: {routes}");
        if !flags.contains("internal") && !flags.contains("macvlan") {
            room.reach(&one.id, "10.90.7.1")?;
            room.reach(&one.id, harness::namespace::OUTSIDE[0])?;
        }
        detach(room, "front", &one)?;
        room.remove(&one)?;
        let printed = done(room, "rm front")?;
        ensure!(printed == "front\n", "rm printed {printed:?}");
        let changes = room.changes_since(&before)?;
        let left: Vec<String> = changes.into_iter().filter(|line| !is_shared(line)).collect();
        ensure!(left.is_empty(), "{flags}: left {}", shown(&left));
    }
    Ok(())
}

/// What is the host's or the plugins' as a whole: rules without an element, caches, forwarding.
fn is_shared(line: &str) -> bool {
    [
        "/run/moor",
        "/var/lib/cni/networks/.moor",
        "table inet moor",
        "table bridge moor",
        "forwarding",
        "ip_forward",
    ]
    .iter()
    .any(|word| line.contains(word))
        || line.contains("/var/lib/cni/networks ")
        || line.contains("/var/lib/cni/results ")
}

fn in_use(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    done(room, "create front")?;
    let one = attach(room, "front", "c1")?;
    let file = Path::new(DIR).join("moor-front.conflist");
    refused(room, "rm front", &["front is in use", "c1", "eth0", "10.90.0.2"])?;
    ensure!(file.exists(), "the file is gone");
    ensure!(done(room, "prune -f")?.is_empty() && file.exists(), "prune took a network in use");

    // The container is killed, and nobody calls DEL.
    room.remove(&one)?;
    // The kernel removes a dead namespace's links in its own time.
    let ports = || ip::output("ip", &["-o", "link", "show", "master", "br-2d8d693177ac"]);
    let deadline = Instant::now() + on_this_machine(Duration::from_secs(5));
    while !ports()?.is_empty() && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
    let whole = fs::metadata("/proc/1/ns/pid").is_ok_and(|meta| meta.ino() == INITIAL_PID_NAMESPACE);
    if whole {
        done(room, "rm front")?;
    } else {
        // What cannot be looked at is not gone.
        refused(room, "rm front", &["state unknown", "pid namespace"])?;
        done(room, "rm --disconnect front")?;
    }
    nothing_of_front(&file)?;

    done(room, "create front")?;
    attach(room, "front", "c2")?;
    done(room, "rm --disconnect front")?;
    nothing_of_front(&file)?;
    let inside = inside("c2", &["-o", "link"])?;
    ensure!(!inside.contains("eth0"), "{inside}");
    done(room, "rm -f front")?;
    refused(room, "rm front", &["no such network: front"])
}

fn nothing_of_front(file: &Path) -> Result<()> {
    ensure!(!file.exists(), "the file is left");
    let links = ip::output("ip", &["-o", "link"])?;
    ensure!(!links.contains("br-2d8d693177ac"), "the bridge is left: {links}");
    ensure!(!Path::new("/var/lib/cni/networks/front").exists(), "the lease directory is left");
    let records: Vec<_> = fs::read_dir("/var/lib/cni/results")?.collect();
    ensure!(records.is_empty(), "records are left: {records:?}");
    Ok(())
}

fn shared_bridge(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let made = || -> Result<()> {
        done(room, "create front --interface-name shop0")?;
        let one = attach(room, "front", "c1")?;
        detach(room, "front", &one)?;
        room.remove(&one)
    };
    let there = || ip::output("ip", &["-o", "link"]).map(|links| links.contains("shop0"));
    for (seed, undo, why) in [
        ("addr add 192.0.2.1/24 dev shop0", "addr del 192.0.2.1/24 dev shop0", "192.0.2.1/24"),
        ("link add p0 master shop0 type veth peer name p1", "link del p0", "p0 is its port"),
    ] {
        made()?;
        ip::script(None, seed)?;
        let answer = network(room, "rm front")?;
        ensure!(
            answer.succeeded() && answer.stderr.contains(why) && there()?,
            "{seed}: {}",
            answer.summary()
        );
        ip::script(None, undo)?;
    }
    made()?;
    write("zz-twin.conflist", &bridge("twin", "10.9.0.0/16").replace("xtwin", "shop0"))?;
    done(room, "rm front")?;
    ensure!(there()?, "another list's bridge is gone");
    fs::remove_file(Path::new(DIR).join("zz-twin.conflist"))?;
    made()?;
    done(room, "rm front")?;
    ensure!(!there()?, "the bridge is left");
    // An administrator's bridge is nobody's who makes a network on it.
    ip::run(&["link", "add", "shop0", "type", "bridge"])?;
    done(room, "create front --interface-name shop0 --internal")?;
    let answer = network(room, "rm front")?;
    ensure!(answer.succeeded() && there()?, "an administrator's bridge is gone: {}", answer.summary());
    Ok(())
}

const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"0.3.1","plugins":[
    {"type":"calico","datastore_type":"kubernetes","ipam":{"type":"calico-ipam"},"kubernetes":{"kubeconfig":"/x"}},
    {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#;
const CILIUM: &str =
    r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni","enable-debug":false}]}"#;
const FLANNEL: &str = r#"{"name":"cbr0","cniVersion":"0.3.1","plugins":[
    {"type":"flannel","delegate":{"hairpinMode":true,"isDefaultGateway":true}},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const CONTAINERD: &str = r#"{"cniVersion":"1.0.0","name":"containerd-net","plugins":[
    {"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,"promiscMode":true,
     "ipam":{"type":"host-local","ranges":[[{"subnet":"10.88.0.0/16"}],[{"subnet":"2001:4860:4860::/64"}]],
             "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const CRIO: &str = r#"{"cniVersion":"1.0.0","name":"crio","type":"bridge","bridge":"cni0","isGateway":true,
    "ipMasq":true,"hairpinMode":true,"ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],
    "ranges":[[{"subnet":"10.85.0.0/16"}]]}}"#;

fn clusters(room: &Room) -> Result<()> {
    write("10-calico.conflist", CALICO)?;
    write("20-cilium.conflist", CILIUM)?;
    write("30-plain.conflist", &bridge("plain", "10.7.0.0/16"))?;
    done(room, "create front")?;
    let files = room.files();
    refused(room, "rm k8s-pod-network", &["calico", "--any"])?;
    refused(room, "rm --any k8s-pod-network", &["10-calico.conflist", "--first"])?;
    refused(room, "rm cilium", &["cilium-cni", "--any"])?;
    ensure!(done(room, "prune")? == "front\n", "what prune would remove");
    ensure!(room.files() == files, "files changed");
    ensure!(done(room, "prune -f --filter label=nope")?.is_empty(), "prune with a label that nothing has");
    done(room, "prune -f")?;
    let names: Vec<_> = ["10-calico.conflist", "20-cilium.conflist", "30-plain.conflist"].into();
    let mut left: Vec<_> = fs::read_dir(DIR)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    left.sort();
    ensure!(left == names, "prune left {left:?}");
    fs::remove_file(Path::new(DIR).join("10-calico.conflist"))?;
    done(room, "rm --any --first cilium").map(drop)
}

fn inspected(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    done(
        room,
        "create front --label team=shop --aux-address my-router=10.90.7.5 --subnet 10.90.7.0/24 -o mtu=1400",
    )?;
    attach(room, "front", "c1")?;
    attach(room, "front", "c2")?;
    // Podman's record has no namespace: only the result's sandbox.
    let record = Path::new("/var/lib/cni/results/front-c2-eth0");
    let mut text: Value = serde_json::from_slice(&fs::read(record)?)?;
    text.as_object_mut().context("a record is an object")?.remove("netns");
    fs::write(record, text.to_string())?;
    let answer = network(room, "inspect front 2d8d693177ac nope")?;
    ensure!(answer.status.code() == Some(1) && answer.stderr.contains("nope"), "{}", answer.summary());
    let all: Value = serde_json::from_slice(&answer.stdout)?;
    ensure!(all.as_array().is_some_and(|all| all.len() == 2 && all[0] == all[1]), "{all:#}");
    let one = &all[0];
    for (pointer, expected) in [
        ("/Name", "front"),
        ("/Scope", "local"),
        ("/Driver", "bridge"),
        ("/IPAM/Driver", "default"),
        ("/IPAM/Config/0/Subnet", "10.90.7.0/24"),
        ("/IPAM/Config/0/Gateway", "10.90.7.1"),
        ("/IPAM/Config/0/AuxiliaryAddresses/my-router", "10.90.7.5"),
        ("/Options/mtu", "1400"),
        ("/Labels/team", "shop"),
        ("/Containers/c1/IPv4Address", "10.90.7.2/24"),
        ("/Containers/c2/IPv4Address", "10.90.7.3/24"),
        ("/Moor/Link", "br-2d8d693177ac"),
    ] {
        let found = one.pointer(pointer).and_then(Value::as_str);
        ensure!(found == Some(expected), "{pointer}: {found:?} in {one:#}");
    }
    let mac = one.pointer("/Containers/c1/MacAddress").and_then(Value::as_str).unwrap_or_default();
    ensure!(inside("c1", &["link"])?.contains(mac) && mac.len() == 17, "MAC address {mac:?}");
    ensure!(one.pointer("/Internal") == Some(&Value::Bool(false)), "internal: {one:#}");
    ensure!(one.pointer("/IPAM/Config/0/IPRange").is_none(), "{one:#}");
    let keys: Vec<_> = one.as_object().context("an object")?.keys().map(String::as_str).collect();
    for key in ["Id", "Created", "EnableIPv4", "EnableIPv6", "Attachable", "Ingress", "ConfigOnly"] {
        ensure!(keys.contains(&key), "no {key} in {keys:?}");
    }
    let text = done(room, "inspect --text front")?;
    ensure!(text.contains("10.90.7.2/24") && text.contains("team=shop"), "{text}");
    let list = done(room, "ls -f in-use=true")?;
    ensure!(list.lines().count() == 2 && list.contains("front"), "{list}");
    Ok(())
}

fn of_nerdctl(room: &Room) -> Result<()> {
    const ID: &str = "17f29b073143d8cd97b5bbe492bdeffec1c5fee55cc1fe2112c8b9335f8b6121";
    let text = bridge("bridge", "10.4.0.0/24").replace(
        "\"name\"",
        &format!(
            "\"nerdctlID\":\"{ID}\",\"nerdctlLabels\":{{\"nerdctl/default-network\":\"true\"}},\"name\""
        ),
    );
    write("nerdctl-bridge.conflist", &text)?;
    fs::create_dir_all(Path::new(DIR).join("shop"))?;
    write("shop/nerdctl-web.conflist", &bridge("web", "10.4.9.0/24"))?;
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    done(room, "create mine --for nerdctl --label team=shop")?;
    let list: Value = serde_json::from_slice(&room.tool(&["--json", "network", "ls"]).run()?.stdout)?;
    let item = |name: &str| list["items"].as_array().into_iter().flatten().find(|item| item["name"] == name);
    let theirs = item("bridge").context("nerdctl's network")?;
    ensure!(theirs["labels"]["nerdctl/default-network"] == "true", "{theirs:#}");
    ensure!(item("web").context("the network of a namespace")?["namespace"] == "shop", "{list:#}");
    let mine: Value = serde_json::from_slice(&fs::read(Path::new(DIR).join("nerdctl-mine.conflist"))?)?;
    ensure!(
        mine["nerdctlID"] == item("mine").context("mine")?["id"] && mine["nerdctlLabels"]["team"] == "shop",
        "{mine:#}"
    );
    ensure!(fs::read_to_string(Path::new(DIR).join("nerdctl-bridge.conflist"))? == text, "its file changed");
    let answer = network(room, "rm bridge web mine")?;
    ensure!(answer.succeeded() && answer.stderr.contains("made by nerdctl"), "{}", answer.summary());
    ensure!(!Path::new(DIR).join("shop/nerdctl-web.conflist").exists(), "the namespace's network is left");
    Ok(())
}

fn samples(room: &Room) -> Result<()> {
    for (name, text) in [
        ("10-calico.conflist", CALICO),
        ("10-containerd-net.conflist", CONTAINERD),
        ("10-flannel.conflist", FLANNEL),
        ("11-crio-ipv4-bridge.conf", CRIO),
        ("05-cilium.conflist", CILIUM),
    ] {
        write(name, text)?;
    }
    let files = room.files();
    let table = done(room, "ls")?;
    for word in [
        "calico",
        "containerd-net",
        "10.88.0.0/16",
        "cbr0",
        "crio",
        "10.85.0.0/16",
        "05-cilium.conflist (first: pods)",
    ] {
        ensure!(table.contains(word), "no {word} in {table}");
    }
    done(room, "inspect k8s-pod-network containerd-net cbr0 crio cilium")?;
    done(room, "create front")?;
    done(room, "rm front")?;
    ensure!(room.files() == files, "files changed");
    // One that cannot be read hides no other.
    write("00-broken.conflist", "{\n  \"name\": \"x\",\n  # a comment\n}")?;
    let answer = network(room, "ls -q")?;
    let lines = String::from_utf8_lossy(&answer.stdout).lines().count();
    ensure!(answer.status.code() == Some(3) && lines == 5, "{}", answer.summary());
    ensure!(
        answer.stderr.contains("00-broken.conflist") && answer.stderr.contains("line 3"),
        "{}",
        answer.stderr
    );
    Ok(())
}
