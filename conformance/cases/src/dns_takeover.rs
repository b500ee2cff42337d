//! dns as replacement of dnsname: its dnsmasq, its files, its containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::cache::unpacked;
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::dns_client::{Question, kind};
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::dns::{
    GATEWAYS, ask, call, expect, kill_responder, records, resolve, responder_pid, until,
};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/names_of_dnsname_are_taken_over", &["D-090"], taken_over).needs(&[Need::Dnsname]),
    Case::new("dns/dnsmasq_stops_with_its_last_container", &["D-090"], last).needs(&[Need::Dnsname]),
    Case::new("dns/only_dnsnames_dnsmasq_is_stopped", &["D-090"], others).needs(&[Need::Dnsname]),
];

/// A container registered by dnsname.
struct Registered {
    container: Container,
    name: &'static str,
    config: Value,
}

impl Registered {
    fn add(room: &Room, id: &str, name: &'static str) -> Result<Self> {
        let container = room.container(id)?;
        let previous = room
            .attach("bridge", "ADD", &container)
            .config(&harness::config::bridge(USUAL))
            .run()?
            .result()?;
        let config = json!({
            "cniVersion": USUAL, "name": "net", "type": "dnsname", "domainName": "foobar.io",
            "capabilities": {"aliases": true}, "runtimeConfig": {"aliases": {"net": ["alias-of-".to_owned() + name]}},
        });
        let registered = Self { container, name, config: with(&config, json!({"prevResult": previous})) };
        registered.by(room, unpacked("dns", "usr/lib/cni/dnsname")?, "ADD")?.result().context("dnsname")?;
        Ok(registered)
    }

    fn by(&self, room: &Room, program: PathBuf, verb: &str) -> Result<Answer> {
        let call = Call::new(room, program).config(&self.config).env("CNI_PATH", &room.suite);
        let call = call.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", &self.container.id);
        let call = call.env("CNI_IFNAME", "eth0").env("CNI_NETNS", &self.container.path);
        call.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAME={}", self.name)).run()
    }

    /// Calls the plugin under test, still with type dnsname.
    fn ours(&self, room: &Room, verb: &str) -> Result<Answer> {
        self.by(room, room.suite.join("dns"), verb)
    }

    fn address(&self, v6: bool) -> String {
        harness::stage::portmap::address(&self.config, v6)
    }
}

const DIR: &str = "/run/containers/cni/dnsname/net";

/// The dnsmasq of dnsname, while it runs.
fn dnsmasq() -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(DIR)
    })
}

fn taken_over(room: &Room) -> Result<()> {
    let web = Registered::add(room, "c1", "web")?;
    let db = Registered::add(room, "c2", "db")?;
    dnsmasq().context("dnsname started no dnsmasq")?;
    // CHECK passes before and after the takeover: some runtimes check all of their pods.
    web.ours(room, "CHECK")?.silent()?;
    let container = room.container("c3")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = with(&web.config, json!({"prevResult": previous, "runtimeConfig": null, "type": "dns"}));
    call(room, "ADD", &container, "new", &config).run()?.result()?;
    ensure!(dnsmasq().is_none() && !Path::new(DIR).exists(), "dnsname is still there");
    let all = || -> Result<()> {
        for server in GATEWAYS {
            for name in ["web", "web.foobar.io", "alias-of-web", "WEB"] {
                expect(room, Some("c2"), server, name, &[&web.address(false)])?;
            }
            expect(room, Some("c1"), server, "db", &[&db.address(false)])?;
            expect(room, Some("c1"), server, "new", &[&harness::stage::portmap::address(&config, false)])?;
        }
        let reply = ask(room, Some("c3"), GATEWAYS[1], &Question::new("web", kind::AAAA))?;
        ensure!(reply.texts() == [&web.address(true)], "{reply:?}");
        Ok(())
    };
    all()?;
    web.ours(room, "CHECK")?.silent()?;
    kill_responder()?;
    db.ours(room, "CHECK")?.silent()?;
    all().context("by a new responder")?;
    let valid = json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": [
        {"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"},
        {"containerID": "c3", "ifname": "eth0"}]});
    room.call("dns", "GC").config(&with(&config, valid)).run()?.silent()?;
    all().context("after GC")?;
    // The next ADD of a container replaces its former record.
    db.ours(room, "ADD")?.result()?;
    all().context("after an ADD of one")?;
    for gone in [&db, &web] {
        gone.ours(room, "DEL")?.silent()?;
        let there = resolve(room, Some("c3"), GATEWAYS[0], &format!("{}.foobar.io", gone.name))?;
        ensure!(there.is_empty(), "{} is found after its DEL", gone.name);
        gone.ours(room, "DEL")?.silent()?;
    }
    ensure!(records().len() == 1, "{:?}", records());
    call(room, "DEL", &container, "new", &config).run()?.silent()?;
    ensure!(records().is_empty(), "{:?}", records());
    Ok(())
}

/// The executables are replaced, and no further container is added.
fn last(room: &Room) -> Result<()> {
    let web = Registered::add(room, "c1", "web")?;
    let db = Registered::add(room, "c2", "db")?;
    let pid = dnsmasq().context("dnsname started no dnsmasq")?;
    db.ours(room, "DEL")?.silent()?;
    ensure!(dnsmasq() == Some(pid), "it exited although web needs it");
    let is = |name: &str| resolve(room, Some("c1"), GATEWAYS[0], &format!("{name}.foobar.io"));
    until(Duration::from_secs(2), "dnsmasq forgets db", || is("db").is_ok_and(|found| found.is_empty()))?;
    ensure!(is("web")? == [web.address(false)], "web is gone too");
    web.ours(room, "DEL")?.silent()?;
    ensure!(dnsmasq().is_none() && !Path::new(DIR).exists(), "dnsname outlives its last container");
    ensure!(responder_pid().is_err(), "DEL started a responder");
    Ok(())
}

/// A pid file may name any process, and another dnsmasq may have the port.
fn others(room: &Room) -> Result<()> {
    let web = Registered::add(room, "c1", "web")?;
    let pid = dnsmasq().context("dnsname started no dnsmasq")?;
    // It is found by the port, although its pid file names another process.
    let mut bystander = std::process::Command::new("sleep").arg("600").spawn()?;
    fs::write(Path::new(DIR).join("pidfile"), format!("{}\n", bystander.id()))?;
    let added = web.ours(room, "ADD")?;
    let alive = bystander.try_wait()?.is_none();
    bystander.kill().ok();
    bystander.wait().ok();
    ensure!(alive, "a process that is not dnsmasq was killed");
    added.result()?;
    ensure!(dnsmasq().is_none(), "process {pid} still runs");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&web.address(false)])?;
    web.ours(room, "DEL")?.silent()?;
    Ok(())
}
