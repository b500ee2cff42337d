//! `moor leases`: an address is leaked only when nothing of its container is left anywhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::until;
use nix::mount::{MsFlags, mount};
use runtime::Conflist;
use serde_json::{Value, json};

use crate::tool::{case, with_every_process};
use crate::tool_views::{attach, list};

pub const CASES: &[Case] = &[
    case("tool/leases_frees_the_dead_and_no_living_one", &["T-040", "T-041"], leaked)
        .needs(&[Need::Tool, Need::EveryProcess]),
    case("tool/leases_frees_nothing_in_a_pid_namespace", &["T-042"], blind),
];

/// How long the kernel may take to remove a link.
const SOON: Duration = Duration::from_secs(10);

const STORE: &str = "/var/lib/cni/networks/leased";
/// A process in a namespace holds no lease of this age by its youth alone.
const OLD: Duration = Duration::from_secs(3600);

fn leased() -> Result<Conflist> {
    list("leased", "10.183.1.0/24", &json!({"type": "bridge", "bridge": "leased0"}), &[])
}

/// The address that an ADD leased.
fn address_of(result: &Value) -> Result<String> {
    let address = result["ips"][0]["address"].as_str().context("no address")?;
    Ok(address.split('/').next().unwrap_or_default().to_owned())
}

fn lease(address: &str) -> PathBuf {
    Path::new(STORE).join(address)
}

fn make_old(address: &str) -> Result<()> {
    let file = fs::File::options().write(true).open(lease(address))?;
    file.set_modified(SystemTime::now() - OLD).context("make the lease old")
}

fn record(id: &str) -> String {
    format!("/var/lib/cni/results/leased-{id}-eth0")
}

fn addresses(document: &Value) -> Vec<String> {
    let stores = document["items"].as_array().into_iter().flatten();
    let leases = stores.flat_map(|store| store["leases"].as_array().cloned().unwrap_or_default());
    leases.filter_map(|lease| lease["address"].as_str().map(ToOwned::to_owned)).collect()
}

fn leaked(room: &Room) -> Result<()> {
    let list = leased()?;
    let mut alive = Vec::new();
    let start = |id: &str| -> Result<String> {
        let container = room.container(id)?;
        let address = address_of(&attach(&room.suite, &list, &container, &json!({}))?)?;
        make_old(&address)?;
        Ok(address)
    };
    // Alive, each with another trace missing.
    alive.push(start("lease-plain")?);
    alive.push(start("lease-unrecorded")?);
    fs::remove_file(record("lease-unrecorded"))?;
    alive.push(start("lease-wrong-line")?);
    let wrong = alive.last().context("an address")?.clone();
    fs::write(lease(&wrong), "lease-wrong-line\r\nwrong9")?;
    make_old(&wrong)?;
    alive.push(start("lease-held")?);
    let held = fs::File::open("/run/netns/lease-held").context("hold the namespace")?;
    ip::output("umount", &["-l", "/run/netns/lease-held"])?;
    fs::remove_file("/run/netns/lease-held")?;
    fs::remove_file(record("lease-held"))?;

    // Dead: the namespace went without a DEL.
    let mut dead = Vec::new();
    for nth in 0..5 {
        let id = format!("lease-dead-{nth}");
        dead.push(start(&id)?);
        ip::output("ip", &["netns", "delete", &id])?;
        if nth % 2 == 0 {
            fs::remove_file(record(&id))?;
        }
    }
    // Dead, and too young to be judged.
    let young = start("lease-young")?;
    fs::File::options().write(true).open(lease(&young))?.set_modified(SystemTime::now())?;
    ip::output("ip", &["netns", "delete", "lease-young"])?;
    // Another container has the address of a dead one.
    let reused = dead.pop().context("an address")?;
    fs::write(lease(&reused), "lease-new\r\neth0")?;
    make_old(&reused)?;
    room.container("lease-new")?;
    ip::run_in("lease-new", &["address", "add", &format!("{reused}/24"), "dev", "lo"])?;

    let answer = with_every_process(room, &["leases", "--leaked", "--json"]).run()?;
    ensure!(answer.status.code() == Some(1), "{}", answer.summary());
    let mut listed = addresses(&answer.document()?);
    listed.sort();
    dead.sort();
    ensure!(listed == dead, "{listed:?} instead of {dead:?}");

    let answer = with_every_process(room, &["leases", "--leaked", "--fix"]).run()?;
    ensure!(answer.succeeded(), "{}", answer.summary());
    ensure!(dead.iter().all(|address| !lease(address).exists()), "a leaked address is leased");
    let kept: Vec<_> =
        alive.iter().chain([&young, &reused]).filter(|address| !lease(address).exists()).collect();
    ensure!(kept.is_empty(), "{kept:?} were freed");
    drop(held);
    let answer = with_every_process(room, &["leases", "--leaked", "--fix"]).run()?;
    ensure!(
        answer.succeeded() && !lease(&alive[3]).exists(),
        "the held one is dead now: {}",
        answer.summary()
    );
    Ok(())
}

fn blind(room: &Room) -> Result<()> {
    let container = room.container("lease-gone")?;
    let address = address_of(&attach(&room.suite, &leased()?, &container, &json!({}))?)?;
    room.remove(&container)?;
    // The kernel removes the link later than the namespace's name.
    let is_gone = || ip::links(None).is_ok_and(|links| !links.iter().any(|name| name.starts_with("veth")));
    until(SOON, "the container's link is gone", is_gone)?;
    make_old(&address)?;
    let answer = room.tool(&["leases", "--json"]).run()?;
    let document = answer.document()?;
    ensure!(answer.status.code() == Some(3), "{}", answer.summary());
    ensure!(document["items"][0]["leases"][0]["state"] == "unknown", "{document}");
    for words in [&["leases", "--leaked", "--fix"][..], &["leases", "--leaked", "--fix", "--json"]] {
        let answer = room.tool(words).run()?;
        ensure!(answer.status.code() == Some(3), "{words:?}: {}", answer.summary());
        ensure!(lease(&address).exists(), "{words:?} freed it");
    }
    // A namespace that cannot be looked at is not gone either.
    let results = Path::new("/var/lib/cni/results");
    mount(Some("none"), results, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .context("hide the records")?;
    let answer = room.tool(&["leases", "--leaked", "--fix"]).run()?;
    ensure!(answer.status.code() == Some(3) && lease(&address).exists(), "{}", answer.summary());
    Ok(())
}
