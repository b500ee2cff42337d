//! dns: records and the responder over their life (dns.md d.2, d.3).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::dns_stage::{
    GATEWAYS, Named, call, dns, expect, kill_responder, places, records, resolve, the_responder, until,
};
use super::{USUAL, with};
use crate::case::Case;
use crate::ip;
use crate::room::Room;

pub const CASES: &[Case] = &[
    Case::new("dns/two_hundred_of_the_only_container", &["D-060"], churn),
    Case::new("dns/four_at_a_time", &["D-060", "C-047"], parallel),
    Case::new("dns/a_killed_responder_is_revived", &["D-061"], revived),
    Case::new("dns/the_responder_has_nothing_of_its_callers", &["D-053", "dns d.2"], nothing_inherited),
    Case::new("dns/an_idle_responder_ends", &["D-071"], idle),
    Case::new("dns/a_full_disk_fails_cleanly", &["D-075"], full),
];

fn churn(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let address = named.address(false);
    for round in 0..200 {
        named.del(room).with_context(|| format!("round {round}"))?;
        named.verb(room, "ADD")?.result().with_context(|| format!("round {round}"))?;
    }
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&address])?;
    named.del(room)?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    Ok(())
}

fn parallel(room: &Room) -> Result<()> {
    let before = ip::output("nft", &["list", "ruleset"])?;
    let named: Vec<Named> = (0..4)
        .map(|worker| Named::add(room, &format!("c{worker}"), &format!("web{worker}"), json!({})))
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let work = |named: &Named| -> Result<()> {
            for round in 0..100 {
                let told = || format!("{} round {round}", named.name);
                named.del(room).with_context(told)?;
                named.verb(room, "ADD")?.result().with_context(told)?;
                expect(room, Some(&named.container.id), GATEWAYS[0], &named.name, &[&named.address(false)])
                    .with_context(told)?;
            }
            named.del(room)
        };
        let workers: Vec<_> = named.iter().map(|named| scope.spawn(move || work(named))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    let after = ip::output("nft", &["list", "ruleset"])?;
    ensure!(after == before, "left behind: {after}");
    Ok(())
}

fn revived(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "db", json!({}))?];
    let third = Named::add(room, "c3", "x", json!({}))?;
    for verb in ["CHECK", "ADD", "DEL", "GC", "STATUS"] {
        kill_responder()?;
        let answer = match verb {
            "GC" => {
                let valid =
                    json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]);
                let keys =
                    json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid});
                room.call("dns", "GC").config(&with(&one.config, keys)).run()?
            }
            "STATUS" => {
                let keys = json!({"cniVersion": "1.1.0", "prevResult": null});
                room.call("dns", "STATUS").config(&with(&one.config, keys)).run()?
            }
            _ => third.verb(room, verb)?,
        };
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        the_responder().with_context(|| format!("after {verb}"))?;
        expect(room, Some("c2"), GATEWAYS[0], "web", &[&one.address(false)])
            .with_context(|| verb.to_owned())?;
        expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])
            .with_context(|| verb.to_owned())?;
    }
    Ok(())
}

fn nothing_inherited(room: &Room) -> Result<()> {
    // The harness waits for the end of the plugin's output, so a pipe that is kept open fails the ADD already.
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = the_responder()?;
    let mut open = vec![];
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        open.push(fs::read_link(entry.path())?.display().to_string());
    }
    ensure!(!open.iter().any(|target| target.starts_with("pipe:")), "{open:?}");
    let place = places().remove(0);
    let own = |target: &String| {
        ["socket:", "anon_inode:", "/dev/null"].iter().any(|kind| target.starts_with(kind))
            || *target == place.join("responder.lock").display().to_string()
    };
    ensure!(open.iter().all(own), "{open:?}");
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    ensure!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    // Fields 5 and 6 behind the name: the group of processes and the session are its own.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        fields[3] == pid.to_string() && fs::read_link(format!("/proc/{pid}/cwd"))?.as_os_str() == "/",
        "{stat}"
    );
    named.del(room)
}

fn idle(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, json!({}));
    let call = |verb: &str| call(room, verb, &container, "web", &config).env("MOOR_DNS_GRACE", "1").run();
    call("ADD")?.result()?;
    the_responder()?;
    call("DEL")?.silent()?;
    the_responder().context("it ended at once")?;
    until(Duration::from_secs(10), "the idle responder ends", || the_responder().is_err())?;
    let place = places().remove(0);
    until(Duration::from_secs(1), "its socket goes", || !place.join("control.sock").exists())?;
    ensure!(place.join("lock").exists() && place.join("responder.lock").exists(), "the locks are gone");
    call("ADD")?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])
}

fn full(room: &Room) -> Result<()> {
    let state = room.scratch("state");
    fs::create_dir_all(&state)?;
    ip::output(
        "mount",
        &["-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", &state.display().to_string()],
    )?;
    let keys = json!({"stateDir": state});
    let named = Named::add(room, "c1", "web", keys.clone())?;
    let filled = state.join("fill");
    // As much as there is room for.
    drop(fs::write(&filled, vec![0; 128 << 10]));
    let container = room.container("c2")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, keys);
    let error = call(room, "ADD", &container, "db", &config).run()?.error()?;
    ensure!(error.msg.contains("No space") || error.details.contains("ENOSPC"), "{error}");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
    ensure!(resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is there");
    fs::remove_file(&filled)?;
    call(room, "ADD", &container, "db", &config).run()?.result()?;
    ensure!(!resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is not there");
    call(room, "DEL", &container, "db", &config).run()?.silent()?;
    named.del(room)
}
