//! Two suites on one lease store, since executables are replaced while containers run.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::{diff, snapshot, store};
use serde_json::{Value, json};

use crate::host_local::{given, ranges};

const REFERENCE: &[Need] = &[Need::Reference];

pub const CASES: &[Case] = &[
    Case::new("interop/sixty_four_processes_of_two_suites_share_a_store", &["HL-13"], crowd)
        .needs(REFERENCE)
        .alone(),
    Case::new("interop/store_equals_the_references", &["HL-1"], equal).needs(REFERENCE),
    Case::new("interop/each_side_sees_the_others_leases", &["HL-13"], mutual).needs(REFERENCE),
    Case::new("interop/del_removes_what_an_add_of_the_reference_created", &["BR-R5"], bridge)
        .needs(REFERENCE),
];

fn call(room: &Room, dir: &Path, verb: &str, id: &str, config: &Value) -> Result<Answer> {
    let call = Call::new(room, dir.join("host-local")).env("CNI_COMMAND", verb).env("CNI_PATH", dir);
    let call = call.env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0").env("CNI_NETNS", "/run/netns/none");
    call.config(config).run()
}

fn crowd(room: &Room) -> Result<()> {
    const PROCESSES: usize = 64;
    const LEASES: usize = 1000;
    let config = ranges(json!([[{"subnet": "10.16.0.0/20"}]]));
    let suites = [&room.suite, &room.reference];
    let all = |verb: &str, swap: usize| -> Result<Vec<String>> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = || -> Result<Vec<String>> {
                let mut got = vec![];
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= LEASES {
                        return Ok(got);
                    }
                    let answer = call(room, suites[(n + swap) % 2], verb, &format!("c{n}"), &config)?;
                    if verb == "ADD" { got.extend(given(&answer.result()?)) } else { answer.silent()? }
                }
            };
            let threads: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(work)).collect();
            let lists =
                threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
            Ok(lists.collect::<Result<Vec<_>>>()?.concat())
        })
    };
    let got = all("ADD", 0)?;
    let different: HashSet<_> = got.iter().collect();
    ensure!(
        got.len() == LEASES && different.len() == LEASES,
        "{} answers, {} different addresses",
        got.len(),
        different.len()
    );
    let leases = store::leases(store::NET)?;
    ensure!(leases.len() == LEASES, "{} lease files", leases.len());
    let owners: HashSet<_> = leases.iter().map(|(_, content)| content.clone()).collect();
    ensure!(
        (0..LEASES).all(|n| owners.contains(&store::content(&format!("c{n}"), "eth0"))),
        "a lease names a wrong owner"
    );
    // Round robin in an empty /20: the first thousand addresses, whichever suite allocates.
    let expected: HashSet<_> = (2..LEASES + 2).map(|n| format!("10.16.{}.{}", n >> 8, n & 255)).collect();
    let names: HashSet<_> = leases.iter().map(|(address, _)| address.to_string()).collect();
    ensure!(
        names == expected,
        "other addresses than the reference alone allocates: {:?}",
        names.symmetric_difference(&expected).take(9).collect::<Vec<_>>()
    );
    all("DEL", 1)?;
    let left = store::leases(store::NET)?;
    ensure!(left.is_empty(), "the other suite did not free {} leases", left.len());
    Ok(())
}

fn equal(room: &Room) -> Result<()> {
    let run = |name: &str, suites: [&Path; 2]| -> Result<Vec<String>> {
        let dir = room.scratch(name);
        let mut config = ranges(
            json!([[{"subnet": "10.0.0.0/28"}, {"subnet": "10.0.1.0/28"}], [{"subnet": "fd00::/120"}]]),
        );
        config["ipam"]["dataDir"] = dir.display().to_string().into();
        let mut turn = suites.iter().cycle();
        let mut next = || turn.next().copied().context("a suite");
        for n in 0..20 {
            call(room, next()?, "ADD", &format!("c{n}"), &config)?.result()?;
        }
        for n in [3, 4, 11] {
            call(room, next()?, "DEL", &format!("c{n}"), &config)?.silent()?;
        }
        let asked = with(&config, json!({"runtimeConfig": {"ips": ["10.0.0.5"]}}));
        call(room, next()?, "ADD", "asked", &asked)?.result()?;
        for n in 30..32 {
            call(room, next()?, "ADD", &format!("c{n}"), &config)?.result()?;
        }
        // Except for modes: Debian's reference writes leases as 0644, later releases as 0600 (see
        // lease_bytes_names_and_modes).
        let strip = |line: String| {
            line.replace(&dir.display().to_string(), "").replace(" 0600 ", " ").replace(" 0644 ", " ")
        };
        Ok(snapshot::files(&[&dir.join("net")]).into_iter().map(strip).collect())
    };
    let reference = run("reference", [&room.reference, &room.reference])?;
    for (name, suites) in
        [("ours", [&*room.suite, &*room.suite]), ("mixed", [&*room.suite, &*room.reference])]
    {
        let found = diff::lines(&reference, &run(name, suites)?);
        ensure!(found.is_empty(), "{name} differs from the reference alone: {found:#?}");
    }
    Ok(())
}

fn mutual(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    for (n, (one, other)) in
        [(&room.suite, &room.reference), (&room.reference, &room.suite)].into_iter().enumerate()
    {
        let id = format!("c{n}");
        call(room, one, "ADD", &id, &config)?.result()?;
        call(room, other, "CHECK", &id, &config)?.silent()?;
        call(room, other, "ADD", &id, &config)?.error_with(999, "duplicate allocation is not allowed")?;
        call(room, other, "DEL", &id, &config)?.silent()?;
        call(room, one, "CHECK", &id, &config)?.error_code(999)?;
        call(room, one, "ADD", &id, &config)?.result()?;
        call(room, one, "DEL", &id, &config)?.silent()?;
    }
    Ok(())
}

fn bridge(room: &Room) -> Result<()> {
    let config = harness::config::bridge(USUAL);
    let before = room.snapshot()?;
    for (id, gone) in [("c1", false), ("c2", true)] {
        let container = room.container(id)?;
        let call = Call::new(room, room.reference.join("bridge"))
            .env("CNI_COMMAND", "ADD")
            .env("CNI_PATH", &room.reference);
        let call =
            call.env("CNI_CONTAINERID", id).env("CNI_IFNAME", "eth0").env("CNI_NETNS", &container.path);
        let result = call.config(&config).run()?.result()?;
        let config = with(&config, json!({"prevResult": result}));
        let held = std::fs::File::open(&container.path)?;
        if gone {
            room.remove(&container)?;
        }
        room.attach("bridge", "DEL", &container).config(&config).run()?.silent()?;
        drop(held);
        room.ensure_nothing_left(&before, &[id])?;
    }
    Ok(())
}
