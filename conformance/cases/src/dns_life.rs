//! dns: the life cycle of records and of the responder.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::dns_client::{Question, kind, rcode};
use harness::ip;
use harness::namespace::allow_ipv6;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, OTHER_GATEWAY, ask, ask_tcp, call, control, dns, expect, kill_responder, other_bridge,
    records, resolve, responder, responder_pid, state_dirs, until,
};
use harness::strace::victim::Victim;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/two_hundred_rounds_of_one_container_leave_nothing", &["D-060"], churn),
    Case::new("dns/four_concurrent_containers_leave_nothing", &["C-047", "D-060"], parallel),
    Case::new("dns/a_killed_responder_is_restarted", &["D-061"], revived),
    Case::new("dns/a_plugin_killed_at_any_step_is_cleaned_up", &["D-062"], killed_plugin)
        .needs(&[Need::Strace]),
    Case::new("dns/a_recreated_bridge_is_served_without_an_add", &["D-063"], bridge_anew),
    Case::new("dns/each_host_namespace_has_its_own_responder", &["D-064"], other_host),
    Case::new("dns/the_responder_inherits_nothing_of_its_caller", &["D-053"], nothing_inherited),
    Case::new("dns/an_idle_responder_exits", &["D-071"], idle),
    Case::new("dns/records_changed_by_hand_are_noticed", &["D-066"], by_hand),
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
                let context = || format!("{} round {round}", named.name);
                named.del(room).with_context(context)?;
                named.verb(room, "ADD")?.result().with_context(context)?;
                expect(room, Some(&named.container.id), GATEWAYS[0], &named.name, &[&named.address(false)])
                    .with_context(context)?;
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
        responder_pid().with_context(|| format!("after {verb}"))?;
        expect(room, Some("c2"), GATEWAYS[0], "web", &[&one.address(false)])
            .with_context(|| verb.to_owned())?;
        expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])
            .with_context(|| verb.to_owned())?;
    }
    Ok(())
}

fn nothing_inherited(room: &Room) -> Result<()> {
    // The harness waits until the plugin's output is closed, so an inherited pipe fails the
    // ADD itself.
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    let mut open = vec![];
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        open.push(fs::read_link(entry.path())?.display().to_string());
    }
    ensure!(!open.iter().any(|target| target.starts_with("pipe:")), "{open:?}");
    let dir = state_dirs().remove(0);
    let own = |target: &String| {
        ["socket:", "anon_inode:", "/dev/null"].iter().any(|kind| target.starts_with(kind))
            || ["lock", "responder.lock"].iter().any(|name| *target == dir.join(name).display().to_string())
    };
    ensure!(open.iter().all(own), "{open:?}");
    // CAP_NET_BIND_SERVICE (linux/capability.h) only, no way to gain more, and no file
    // access of root.
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    for line in [
        "CapPrm:\t0000000000000400",
        "CapEff:\t0000000000000400",
        "CapInh:\t0000000000000400",
        "CapAmb:\t0000000000000400",
        "Uid:\t61053\t61053\t61053\t61053",
        "Gid:\t61053\t61053\t61053\t61053",
        "Groups:\t ",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        ensure!(status.lines().any(|have| have == line), "{line:?} is not in {status}");
    }
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    ensure!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    // Fields 5 and 6 after the name: process group and session are its own.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        fields[3] == pid.to_string() && fs::read_link(format!("/proc/{pid}/cwd"))? == dir.join("net"),
        "{stat}"
    );
    named.del(room)
}

fn idle(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, json!({}));
    let call = |verb: &str| call(room, verb, &container, "web", &config).env("MOOR_DNS_GRACE", "1").run();
    call("ADD")?.result()?;
    responder_pid()?;
    call("DEL")?.silent()?;
    responder_pid().context("it exited at once")?;
    until(Duration::from_secs(10), "the idle responder exits", || responder_pid().is_err())?;
    let dir = state_dirs().remove(0);
    ensure!(control(r#"{"ask":"hello"}"#).is_err(), "the control socket still answers");
    ensure!(dir.join("lock").exists() && dir.join("responder.lock").exists(), "the locks are gone");
    call("ADD")?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])
}

/// No plugin reports these changes.
fn by_hand(room: &Room) -> Result<()> {
    let keys = || json!({"domainName": "example.org"});
    let [one, two] = [Named::add(room, "c1", "web", keys())?, Named::add(room, "c2", "db", keys())?];
    let other = Named::behind(room, "c3", "far", &other_bridge(), json!({}))?;
    let pid = responder_pid()?;
    let net = state_dirs().remove(0).join("net/net");
    let soon = |what: &str, condition: &dyn Fn() -> bool| until(Duration::from_secs(2), what, condition);
    let code = |name: &str| {
        ask(room, Some("c2"), GATEWAYS[0], &Question::new(name, kind::A)).map(|reply| reply.rcode()).ok()
    };
    let aside = net.join("att/c1@eth0.json.aside");
    fs::rename(net.join("att/c1@eth0.json"), &aside)?;
    soon("a name is unknown after its record was moved aside", &|| {
        code("web.example.org") == Some(rcode::NXDOMAIN)
    })?;
    expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])?;
    fs::rename(&aside, net.join("att/c1@eth0.json"))?;
    soon("a name is known after its record was moved back", &|| {
        code("web.example.org") == Some(rcode::NOERROR)
    })?;
    one.verb(room, "CHECK")?.silent()?;
    fs::remove_file(net.join("att/c1@eth0.json"))?;
    soon("a name is unknown after its record was removed", &|| {
        code("web.example.org") == Some(rcode::NXDOMAIN)
    })?;
    one.verb(room, "CHECK")?.error_with(999, "not recorded")?;
    one.del(room)?;
    fs::remove_dir_all(&net)?;
    soon("a removed network gets no answer", &|| code("db").is_none())?;
    expect(room, Some("c3"), OTHER_GATEWAY, "far", &[&other.address(false)])?;
    two.verb(room, "CHECK")?.error_with(999, "not recorded")?;
    one.verb(room, "ADD")?.result()?;
    expect(room, Some("c2"), GATEWAYS[0], "web", &[&one.address(false)])?;
    ensure!(responder_pid()? == pid, "the responder was replaced");
    [&one, &two, &other].into_iter().try_for_each(|named| named.del(room))?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    Ok(())
}

/// After a kill at any step of ADD and DEL, the next DEL, ADD or GC cleans up; other names
/// stay.
fn killed_plugin(room: &Room) -> Result<()> {
    let first = Named::add(room, "first", "first", json!({}))?;
    let second = Named::add(room, "second", "second", json!({}))?;
    second.del(room)?;
    let files = || -> Vec<String> {
        let mut files = vec![];
        for dir in state_dirs() {
            for network in fs::read_dir(dir.join("net")).into_iter().flatten().flatten() {
                for records in [network.path(), network.path().join("att")] {
                    let entries = fs::read_dir(records).into_iter().flatten().flatten();
                    files.extend(entries.map(|entry| entry.path().display().to_string()));
                }
            }
        }
        files.sort();
        files
    };
    let rules = || ip::output("nft", &["list", "ruleset"]);
    let before = (files(), rules()?);
    let nothing_left = || -> Result<()> {
        expect(room, Some("first"), GATEWAYS[0], "first", &[&first.address(false)])?;
        ensure!(resolve(room, Some("first"), GATEWAYS[0], "second.net")?.is_empty(), "second is still found");
        let after = (files(), rules()?);
        ensure!(after == before, "left behind: {after:?}, before: {before:?}");
        Ok(())
    };
    let valid = json!([{"containerID": "first", "ifname": "eth0"}]);
    let gc = with(
        &first.config,
        json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid}),
    );
    let mends: [&dyn Fn() -> Result<()>; 3] = [
        &|| second.del(room),
        &|| {
            second.verb(room, "ADD")?.result()?;
            expect(room, Some("second"), GATEWAYS[0], "second", &[&second.address(false)])?;
            second.verb(room, "CHECK")?.silent()
        },
        &|| {
            room.call("dns", "GC").config(&gc).run()?.silent()?;
            nothing_left().context("after GC")
        },
    ];
    for verb in ["ADD", "DEL"] {
        let victim =
            Victim { room, plugin: "dns", verb, container: &second.container, config: &second.config };
        for mend in mends {
            let hit = victim.killed_and_mended(mend, nothing_left)?;
            ensure!(hit > 2, "{verb} was killed at only {hit} steps");
        }
    }
    Ok(())
}

fn bridge_anew(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let other = Named::behind(room, "c2", "db", &other_bridge(), json!({}))?;
    let pid = responder_pid()?;
    let port = named.config["prevResult"]["interfaces"][1]["name"].as_str().context("no port")?;
    ip::run(&["link", "del", "br0"])?;
    expect(room, Some("c2"), OTHER_GATEWAY, "db", &[&other.address(false)])?;
    ip::script(None, "link add br0 type bridge")?;
    allow_ipv6(&["br0"])?;
    ip::script(
        None,
        &format!(
            "addr add {}/24 dev br0
             -6 addr add {}/64 dev br0 nodad
             link set br0 up
             link set {port} master br0 up",
            GATEWAYS[0], GATEWAYS[1]
        ),
    )?;
    // Until the container drops the old bridge's MAC address.
    ip::run_in("c1", &["neigh", "flush", "all"])?;
    room.reach("c1", GATEWAYS[0])?;
    for server in GATEWAYS {
        expect(room, Some("c1"), server, "web", &[&named.address(false)])?;
        let reply = ask_tcp(room, Some("c1"), server, &Question::new("web", kind::A))?;
        ensure!(reply.texts() == [&named.address(false)], "{reply:?}");
    }
    expect(room, Some("c2"), OTHER_GATEWAY, "db", &[&other.address(false)])?;
    ensure!(responder_pid()? == pid, "the responder was replaced");
    Ok(())
}

fn other_host(room: &Room) -> Result<()> {
    let here = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    room.container("host2")?;
    ip::run_in("host2", &["link", "set", "lo", "up"])?;
    let there = room.inside("host2", || Named::add(room, "c2", "db", json!({})))?;
    ensure!(state_dirs().len() == 2 && records().len() == 2, "{:?} {:?}", state_dirs(), records());
    let alive: Vec<u32> = state_dirs().iter().filter_map(|dir| responder(dir)).collect();
    ensure!(alive.len() == 2 && alive.contains(&pid), "{pid} ran before, now {alive:?}");
    let both = || -> Result<()> {
        expect(room, Some("c1"), GATEWAYS[0], "web", &[&here.address(false)])?;
        ensure!(resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "c1 sees db");
        Ok(())
    };
    both()?;
    for from in ["c2", "host2"] {
        expect(room, Some(from), GATEWAYS[0], "db", &[&there.address(false)])?;
        ensure!(resolve(room, Some(from), GATEWAYS[0], "web.net")?.is_empty(), "{from} sees web");
    }
    room.inside("host2", || there.verb(room, "CHECK")?.silent())?;
    room.inside("host2", || there.del(room))?;
    both()?;
    here.verb(room, "CHECK")?.silent()
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
    // As much as fits.
    drop(fs::write(&filled, vec![0; 128 << 10]));
    let container = room.container("c2")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, keys);
    let error = call(room, "ADD", &container, "db", &config).run()?.error()?;
    ensure!(error.msg.contains("No space") || error.details.contains("ENOSPC"), "{error}");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
    ensure!(resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is found");
    fs::remove_file(&filled)?;
    call(room, "ADD", &container, "db", &config).run()?.result()?;
    ensure!(!resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is not found");
    call(room, "DEL", &container, "db", &config).run()?.silent()?;
    named.del(room)
}
