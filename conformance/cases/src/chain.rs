//! A list of five plugins, called as a runtime calls them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use harness::stage::portmap::{HOST, ask, serve};
use harness::stage::{conflists, tuning};
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Map, Value, json};

pub const CASES: &[Case] = &[
    Case::new("chain/everything_of_five_plugins_comes_and_goes", &["CH-1", "CH-2", "CH-3"], whole),
    Case::new("chain/one_executable_serves_all_five", &["CH-7"], one_executable),
    Case::new("chain/del_without_the_namespace_removes_everything", &["CH-3"], dead),
    Case::new("chain/del_removes_what_a_dead_runtime_left", &["CH-4"], |room| died(room, "DEL")),
    Case::new("chain/gc_removes_what_a_dead_runtime_left", &["CH-4", "CH-6"], |room| died(room, "GC")),
    Case::new("chain/del_after_a_failure_at_each_position_removes_everything", &["CH-5", "C-133"], failed),
];

const PORT: u16 = 8080;

/// The plugins of the list, in order.
fn plugins() -> Vec<Value> {
    let bridge = with(&bridge(USUAL), json!({"ipMasq": true}));
    vec![
        bridge,
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "firewall"}),
        json!({"type": "tuning", "mac": "02:00:00:00:00:AA", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}}),
        json!({"type": "bandwidth", "ingressRate": 100_000_000, "ingressBurst": 10_000_000,
               "egressRate": 100_000_000, "egressBurst": 10_000_000}),
    ]
}

fn list(version: &str, plugins: &[Value]) -> Result<Conflist> {
    let document = json!({"cniVersion": version, "name": "net", "plugins": plugins});
    Ok(Conflist::from_bytes(document.to_string().as_bytes())?)
}

fn attachment(container: &Container) -> Attachment {
    let path = container.path.display().to_string();
    let ports = json!([{"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}]);
    Attachment {
        capabilities: Map::from_iter([("portMappings".to_owned(), ports)]),
        ..Attachment::new(&container.id, path, "eth0")
    }
}

/// What the host has of a container besides the room's snapshot.
fn left(room: &Room, before: &[String], when: &str) -> Result<()> {
    room.ensure_nothing_left(before, &["c1"]).with_context(|| when.to_owned())?;
    let kept = tuning::kept();
    ensure!(kept.is_empty(), "{when}: {kept:?}");
    let shaped = ip::output("tc", &["qdisc", "show"])?;
    ensure!(!shaped.contains("tbf") && !shaped.contains("ingress"), "{when}: {shaped}");
    Ok(())
}

/// The container's namespace is as before.
fn untouched(room: &Room, id: &str, when: &str) -> Result<()> {
    let links = ip::links(Some(id))?;
    ensure!(links == ["lo"], "{when}: {links:?}");
    let somaxconn = room.sysctl(id, "net/core/somaxconn")?;
    ensure!(somaxconn == "4096", "{when}: net.core.somaxconn is {somaxconn}");
    Ok(())
}

/// The room's first state, and a container.
fn staged(room: &Room) -> Result<(Container, Vec<String>)> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    room.inside("c1", || Ok(fs::write("/proc/sys/net/core/somaxconn", "4096")?))?;
    Ok((container, before))
}

fn whole(room: &Room) -> Result<()> {
    room.outside(&[])?;
    comes_and_goes(room, &conflists::runtime(room))
}

fn comes_and_goes(room: &Room, runtime: &Runtime) -> Result<()> {
    let (container, before) = staged(room)?;
    let list = list(USUAL, &plugins())?;
    let attachment = attachment(&container);
    let result = runtime.add(&list, &attachment)?;
    runtime.check(&list, &attachment).context("CHECK")?;
    let interfaces = result["interfaces"].as_array().context("no interfaces")?;
    let own = interfaces.iter().find(|it| it["name"] == "eth0").context("no eth0 in the result")?;
    ensure!(own["mac"].as_str().is_some_and(|mac| mac.eq_ignore_ascii_case("02:00:00:00:00:aa")), "{own}");
    ensure!(result["ips"][0]["address"] == "10.1.2.2/24", "{result}");
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    ensure!(link["mtu"] == 1400 && link["address"] == "02:00:00:00:00:aa", "{link}");
    ensure!(room.sysctl("c1", "net/core/somaxconn")? == "500");
    let shaped = ip::output("tc", &["qdisc", "show"])?;
    ensure!(shaped.matches("tbf").count() == 2, "both directions are shaped: {shaped}");
    serve(room, "c1", 80)?;
    if ip::link(None, "wan0")?.is_some() {
        room.reach("c1", "198.51.100.2")?;
        let answer = ask(room, Some("outside"), HOST[0], PORT)?;
        ensure!(answer.contains("198.51.100.2"), "a client got {answer:?}");
    }
    runtime.del(&list, &attachment).context("DEL")?;
    untouched(room, "c1", "after DEL")?;
    left(room, &before, "after DEL")?;
    runtime.del(&list, &attachment).context("the second DEL")
}

/// Under the plugins' names, as `make install LINKS=1` has it.
fn one_executable(room: &Room) -> Result<()> {
    let dir: PathBuf = room.scratch("links");
    fs::create_dir_all(&dir)?;
    let all = room.suite.join("moor-plugins");
    for name in ["bridge", "portmap", "firewall", "tuning", "bandwidth", "host-local"] {
        symlink(&all, dir.join(name))?;
    }
    let mut runtime = conflists::runtime(room);
    runtime.cni_path = vec![dir];
    comes_and_goes(room, &runtime)
}

fn dead(room: &Room) -> Result<()> {
    let (container, before) = staged(room)?;
    let runtime = conflists::runtime(room);
    let list = list(USUAL, &plugins())?;
    let attachment = attachment(&container);
    runtime.add(&list, &attachment)?;
    room.remove(&container)?;
    runtime.del(&list, &attachment)?;
    left(room, &before, "after DEL")
}

/// After each number of plugins, the runtime dies, and the next one knows no result.
fn died(room: &Room, verb: &str) -> Result<()> {
    let (container, before) = staged(room)?;
    let runtime = conflists::runtime(room);
    let version = if verb == "GC" { "1.1.0" } else { USUAL };
    let whole = list(version, &plugins())?;
    let attachment = attachment(&container);
    for count in 1..=plugins().len() {
        let when = format!("{verb} after {count} plugins");
        runtime.add(&list(version, &plugins()[..count])?, &attachment).with_context(|| when.clone())?;
        fs::remove_file("/var/lib/cni/results/net-c1-eth0")?;
        match verb {
            "GC" => runtime.gc(&whole, Some(&[].into())).map(drop).with_context(|| when.clone())?,
            _ => runtime.del(&whole, &attachment).with_context(|| when.clone())?,
        }
        untouched(room, "c1", &when)?;
        left(room, &before, &when)?;
    }
    if verb == "GC" {
        // A valid attachment keeps everything.
        runtime.add(&whole, &attachment)?;
        let valid = [attachment.id()].into();
        runtime.gc(&whole, Some(&valid))?;
        runtime.check(&whole, &attachment).context("CHECK after a GC that keeps it")?;
        runtime.del(&whole, &attachment)?;
        left(room, &before, "in the end")?;
    }
    Ok(())
}

fn failed(room: &Room) -> Result<()> {
    let (container, before) = staged(room)?;
    let refuse = r#"[ "$CNI_COMMAND" = ADD ] && { printf '{"code":142,"msg":"no"}'; exit 1; }; true"#;
    let fake = Fake::new(room, "refuses", refuse)?;
    let mut runtime = conflists::runtime(room);
    runtime.cni_path.push(fake.dir.clone());
    let attachment = attachment(&container);
    for position in 1..=plugins().len() {
        let when = format!("a failure after {position} plugins");
        let mut plugins = plugins();
        plugins.insert(position, json!({"type": "refuses"}));
        let list = list(USUAL, &plugins)?;
        ensure!(runtime.add(&list, &attachment).is_err(), "{when}: ADD succeeded");
        runtime.del(&list, &attachment).with_context(|| when.clone())?;
        untouched(room, "c1", &when)?;
        left(room, &before, &when)?;
    }
    Ok(())
}
