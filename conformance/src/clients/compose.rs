//! `moor compose` with podman: services of one network reach each other by name, and nobody else.

use std::fs;

use anyhow::{Context, Result, ensure};
use engines::machine::rootfs;
use engines::podman::podman;
use harness::room::Room;
use serde_json::Value;

use super::front::{address, is_apart, namespace};
use super::networks::moor;
use super::{Steps, nothing_left, reads};

/// The services that run, with the port of each.
const SERVICES: [(&str, &str); 3] = [("webapp", "5000"), ("api", "80"), ("maria", "80")];
const CONTAINERS: [&str; 3] = ["shop-webapp-1", "shop-api-1", "shop-maria-1"];

const FILE: &str = include_str!("../../../testdata/tool/compose/between.yaml");
const EXTERNAL: &str = "  inout:\n    external: true\n";

pub fn steps(room: &Room, steps: &mut Steps, before: &[String]) {
    let file = room.scratch("compose.yaml");
    let compose = |words: &[&str]| {
        let file = file.display().to_string();
        tool(room, &[&["compose", "-p", "shop", "-f", &file], words].concat())
    };
    steps.check("compose create: the project's networks, beside an external one", || {
        fs::write(&file, format!("{FILE}{EXTERNAL}"))?;
        tool(room, &["network", "create", "inout"])?;
        let made = compose(&["create"])?;
        ensure!(made == "shop_back\nshop_front\n", "it printed {made:?}");
        let list = podman(&["network", "ls", "--format", "{{.Name}}"])?;
        ensure!(list.contains("shop_back") && list.contains("shop_front"), "podman knows {list:?}");
        Ok(())
    });
    steps.check("podman run by the flags of compose plan", || {
        let plan: Value = serde_json::from_str(&compose(&["plan", "--json"])?)?;
        SERVICES.iter().try_for_each(|(name, port)| run(&plan, name, port))
    });
    steps.check("a published port", || reads(room, None, "127.0.0.1", 5000));
    steps.check("a service finds the one that is on its network, too, by name", || {
        let printed = podman(&["exec", "shop-webapp-1", "/bin/nslookup", "-type=a", "api"])?;
        let address = address("shop-api-1", "shop_front")?;
        ensure!(printed.contains(&address), "nslookup printed {printed:?}, not {address}");
        reads(room, Some(&namespace("shop-webapp-1")?), &address, 80)?;
        reads(room, Some(&namespace("shop-api-1")?), &self::address("shop-maria-1", "shop_back")?, 80)
    });
    steps.check("neither reaches what is behind that one", || {
        is_apart(room, "shop-webapp-1", &address("shop-maria-1", "shop_back")?)?;
        is_apart(room, "shop-maria-1", &address("shop-webapp-1", "shop_front")?)
    });
    steps.check("compose rm: refused while the networks are used", || {
        let answer = moor(room, &["compose", "-p", "shop", "rm"]).run()?;
        ensure!(answer.stderr.contains("shop_front is in use"), "{}", answer.summary());
        Ok(())
    });
    steps.check("compose rm: the project's networks alone", || {
        podman(&[&["rm", "-f", "-t", "0"], &CONTAINERS[..]].concat())?;
        let removed = compose(&["rm"])?;
        ensure!(removed == "shop_front\nshop_back\n", "it printed {removed:?}");
        tool(room, &["network", "rm", "inout"]).map(drop)
    });
    steps.check("nothing is left of the project", || nothing_left(room, before));
}

/// What the tool prints when it succeeds.
fn tool(room: &Room, words: &[&str]) -> Result<String> {
    let answer = moor(room, words).run()?;
    ensure!(answer.succeeded(), "{}", answer.summary());
    Ok(String::from_utf8(answer.stdout)?)
}

/// Runs a web server as the service.
fn run(plan: &Value, name: &str, port: &str) -> Result<()> {
    let services = plan["items"][0]["services"].as_array().context("a plan without services")?;
    let service = services.iter().find(|service| service["name"] == name).context("no such service")?;
    let flags = service["podman"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let root = rootfs().display().to_string();
    let run: Vec<&str> = ["run", "-d"].into_iter().chain(flags).chain(["--rootfs", &root]).collect();
    podman(&[&run[..], &["/bin/httpd", "-f", "-p", port, "-h", "/www"]].concat()).map(drop)
}
