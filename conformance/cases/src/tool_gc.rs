//! `moor gc`: what is left of dead attachments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::machine;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::reapply::rules;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Map, Value, json};

use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/gc_removes_what_it_lists_and_a_second_finds_nothing", &["T-006", "T-044"], planned)
        .needs(&[Need::Tool, Need::InitialPids]),
    case("tool/gc_that_is_killed_is_finished_by_another", &["T-044"], killed)
        .needs(&[Need::Tool, Need::InitialPids]),
    case("tool/gc_removes_leftovers_of_the_reference", &["T-045"], of_reference).needs(&[
        Need::Tool,
        Need::InitialPids,
        Need::Reference,
        Need::Iptables,
    ]),
    case("tool/gc_keeps_everything_beside_a_port_of_nobody", &["T-045"], strange_port)
        .needs(&[Need::Tool, Need::InitialPids]),
    case("tool/gc_removes_nothing_where_processes_are_hidden", &["T-042"], hidden),
];

const FRONT: &str = r#"{"cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "firewall", "ingressPolicy": "same-bridge"}]}"#;
const REFERENCE: &str = r#"{"cniVersion": "1.0.0", "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

/// A network, and the runtime that attaches to it.
pub struct Network {
    pub dir: PathBuf,
    pub list: Conflist,
    pub runtime: Runtime,
}

impl Network {
    /// Writes the conflist, for plugins in this directory.
    pub fn new(room: &Room, list: &str, plugins: &Path) -> Result<Self> {
        let dir = room.scratch("net.d");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("front.conflist"), list)?;
        let mut runtime = Runtime::new(vec![plugins.to_owned()], "/var/lib/cni");
        runtime.forward_stderr = false;
        Ok(Self { dir, list: Conflist::from_bytes(list.as_bytes())?, runtime })
    }

    /// Attaches a container, with a published port if it is not 0.
    pub fn attach(&self, container: &Container, port: u16) -> Result<Attachment> {
        let mut capabilities = Map::new();
        if port > 0 {
            let ports = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
            capabilities.insert("portMappings".into(), ports);
        }
        let attachment = Attachment {
            container_id: container.id.clone(),
            netns: Some(container.path.display().to_string()),
            ifname: "eth0".into(),
            capabilities,
            ..Attachment::default()
        };
        self.runtime.add(&self.list, &attachment).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(attachment)
    }

    pub fn check(&self, attachment: &Attachment) -> Result<()> {
        self.runtime.check(&self.list, attachment).map_err(|error| anyhow::anyhow!("CHECK: {error}"))
    }

    /// Attaches a container that then dies without a DEL.
    fn dead(&self, room: &Room, id: &str, port: u16) -> Result<()> {
        let ports = || -> Result<usize> {
            let links = ip::rows(None, &["link", "show"])?;
            Ok(links.iter().filter(|link| link["master"] == "br0").count())
        };
        let before = ports()?;
        let container = room.container(id)?;
        self.attach(&container, port)?;
        room.remove(&container)?;
        // The kernel dismantles a namespace in the background.
        for _ in 0..200 {
            if ports()? == before {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(anyhow::anyhow!("the link of {id} does not go"))
    }

    /// Runs `gc`; returns its items and its exit status.
    fn gc(&self, room: &Room, words: &[&str]) -> Result<(Vec<Value>, Option<i32>)> {
        let dir = self.dir.display().to_string();
        let args = [&["gc", "--json", "--dir", &dir], words].concat();
        let plugins = self.runtime.cni_path.first().context("a path")?;
        let answer = room.tool(&args).env("CNI_PATH", plugins).run()?;
        let document: Value = serde_json::from_slice(&answer.stdout).with_context(|| answer.summary())?;
        ensure!(document["kind"] == "gc", "{document:#}");
        let items = document["items"].as_array().context("no items")?.clone();
        Ok((items, answer.status.code()))
    }
}

/// What an item is about, whatever became of it.
fn object(item: &Value) -> String {
    let text = |key: &str| item[key].as_str().unwrap_or_default();
    format!("{} {} {} {}", text("network"), text("containerId"), text("kind"), text("object"))
}

fn all_are(items: &[Value], done: &str) -> Result<()> {
    let other = items.iter().find(|item| item["done"] != done);
    other.map_or(Ok(()), |item| Err(anyhow::anyhow!("not {done}: {item:#}")))
}

fn planned(room: &Room) -> Result<()> {
    machine::whole()?;
    let network = Network::new(room, FRONT, &room.suite)?;
    let living = room.container("alive")?;
    let attached = network.attach(&living, 8080)?;
    let with_one = rules()?;
    network.dead(room, "dead1", 8081)?;
    network.dead(room, "dead2", 0)?;

    let before = room.snapshot()?;
    let (young, status) = network.gc(room, &[])?;
    ensure!(young.is_empty() && status == Some(0), "younger than 10 minutes: {young:#?}, {status:?}");
    let (plan, status) = network.gc(room, &["--older-than", "0s"])?;
    room.ensure_unchanged(&before, "gc without --fix")?;
    ensure!(status == Some(1), "with something left: exit {status:?}");
    all_are(&plan, "would remove")?;
    let kinds = |id: &str| {
        let mut kinds: Vec<_> =
            plan.iter().filter(|item| item["containerId"] == id).map(|item| item["kind"].clone()).collect();
        kinds.dedup();
        kinds
    };
    ensure!(kinds("alive").is_empty(), "{plan:#?}");
    for (id, expected) in [("dead1", vec!["record", "lease", "intent", "element"])]
        .into_iter()
        .chain([("dead2", vec!["record", "lease", "intent", "element"])])
    {
        ensure!(kinds(id) == expected, "{id}: {:?}", kinds(id));
    }

    let (removed, status) = network.gc(room, &["--older-than", "0s", "--fix"])?;
    ensure!(status == Some(0), "exit {status:?}: {removed:#?}");
    all_are(&removed, "removed")?;
    let objects = |items: &[Value]| items.iter().map(object).collect::<Vec<_>>();
    ensure!(objects(&plan) == objects(&removed), "planned {plan:#?}, removed {removed:#?}");
    for id in ["dead1", "dead2"] {
        ensure!(!Path::new(&format!("/var/lib/cni/results/front-{id}-eth0")).exists(), "{id}'s record");
    }
    let changes = harness::diff::lines(&with_one, &rules()?);
    ensure!(changes.is_empty(), "rules of the living: {}", harness::diff::shown(&changes));
    network.check(&attached)?;

    for words in [&["--older-than", "0s"][..], &["--older-than", "0s", "--fix"]] {
        let (second, status) = network.gc(room, words)?;
        ensure!(second.is_empty() && status == Some(0), "a second time: {second:#?}, {status:?}");
    }
    network.runtime.del(&network.list, &attached).map_err(|error| anyhow::anyhow!("{error}"))
}

fn killed(room: &Room) -> Result<()> {
    machine::whole()?;
    let network = Network::new(room, FRONT, &room.suite)?;
    let living = network.attach(&room.container("alive")?, 8080)?;
    let with_one = rules()?;
    for at in 0..6_u16 {
        network.dead(room, &format!("dead{at}"), 8081 + at)?;
    }
    let dir = network.dir.display().to_string();
    for milliseconds in [15, 40, 60, 80] {
        let mut child = Command::new(room.suite.join("moor"))
            .args(["gc", "--fix", "--older-than", "0s", "--dir", &dir])
            .env("CNI_PATH", &room.suite)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        std::thread::sleep(Duration::from_millis(milliseconds));
        child.kill()?;
        child.wait()?;
    }
    let (_, status) = network.gc(room, &["--older-than", "0s", "--fix"])?;
    ensure!(status == Some(0), "the last one: exit {status:?}");
    let changes = harness::diff::lines(&with_one, &rules()?);
    ensure!(changes.is_empty(), "left: {}", harness::diff::shown(&changes));
    let leases = fs::read_dir("/var/lib/cni/networks/front")?.flatten();
    let leases = leases.filter(|lease| lease.file_name().to_string_lossy().starts_with("10."));
    ensure!(leases.count() == 1, "leases are left");
    network.check(&living)
}

/// The rules that the reference makes.
fn of_iptables() -> Result<String> {
    ip::output("iptables-save", &["-t", "nat"])
}

fn of_reference(room: &Room) -> Result<()> {
    machine::whole()?;
    let network = Network::new(room, REFERENCE, &room.reference)?;
    network.dead(room, "dead", 8081)?;
    ensure!(of_iptables()?.contains("dead"), "the reference made no rules");
    let other = Path::new("/var/lib/cni/networks/other");
    fs::create_dir_all(other)?;
    fs::write(other.join("10.1.1.2"), "dead\r\neth0")?;
    let (removed, status) = network.gc(room, &["front", "--older-than", "0s", "--fix"])?;
    ensure!(status == Some(0), "exit {status:?}: {removed:#?}");
    let kinds: Vec<_> = removed.iter().map(|item| item["kind"].clone()).collect();
    ensure!(kinds == ["record", "lease"], "{removed:#?}");
    ensure!(!of_iptables()?.contains("dead"), "rules are left: {}", of_iptables()?);
    ensure!(!Path::new("/var/lib/cni/networks/front/10.90.1.2").exists(), "the lease is left");
    ensure!(other.join("10.1.1.2").exists(), "a lease of another network is gone");
    Ok(())
}

fn strange_port(room: &Room) -> Result<()> {
    machine::whole()?;
    let network = Network::new(room, FRONT, &room.suite)?;
    network.dead(room, "dead", 8081)?;
    ip::run(&["link", "add", "hand0", "type", "veth", "peer", "name", "hand1"])?;
    ip::run(&["link", "set", "hand0", "master", "br0"])?;
    let before = room.snapshot()?;
    let (items, status) = network.gc(room, &["--older-than", "0s", "--fix"])?;
    ensure!(items.is_empty() && status == Some(1), "exit {status:?}: {items:#?}");
    room.ensure_unchanged(&before, "a refused gc")?;
    ip::run(&["link", "del", "hand0"])?;
    let (items, status) = network.gc(room, &["--older-than", "0s", "--fix"])?;
    ensure!(!items.is_empty() && status == Some(0), "exit {status:?}: {items:#?}");

    // Its owner has forbidden it.
    network.dead(room, "dead", 8081)?;
    let forbidden = FRONT.replace(r#""name": "front""#, r#""name": "front", "disableGC": true"#);
    fs::write(network.dir.join("front.conflist"), forbidden)?;
    let (items, status) = network.gc(room, &["--older-than", "0s", "--fix"])?;
    ensure!(items.is_empty() && status == Some(1), "disableGC: exit {status:?}: {items:#?}");
    Ok(())
}

fn hidden(room: &Room) -> Result<()> {
    let network = Network::new(room, FRONT, &room.suite)?;
    network.dead(room, "dead", 8081)?;
    let before = room.snapshot()?;
    for words in [&["--older-than", "0s"][..], &["--older-than", "0s", "--fix"]] {
        let (items, status) = network.gc(room, words)?;
        ensure!(items.is_empty() && status == Some(3), "{words:?}: exit {status:?}: {items:#?}");
    }
    room.ensure_unchanged(&before, "a gc that cannot see everything")
}
