//! dns under load, and costs that do not depend on timing. `conformance dns` measures times.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::dns_client::{ID, Question, client, connect, framed, kind, read_frame, receive};
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, ask, call, control, expect, kill_responder, records, resolve, responder_pid, state_dirs,
    until, with_records,
};
use harness::stage::load::{Load, Pace, come_and_go, names};
use harness::strace::attached::Attached;
use harness::strace::summary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/partial_and_idle_connections_cost_little", &["D-052"], connections).alone(),
    Case::new("dns/containers_come_and_go_under_load", &["D-069"], come_and_go_under_load).alone(),
    Case::new("dns/a_killed_responder_is_restarted_under_load", &["D-061"], killed_under_load).alone(),
    Case::new("dns/another_executable_takes_over_under_load", &["D-070"], reexec).alone(),
    Case::new("dns/many_queries_cost_few_system_calls", &["D-080"], system_calls).needs(&[Need::Strace]),
    Case::new("dns/an_add_costs_no_more_among_thousands_of_names", &["D-081"], among_thousands)
        .needs(&[Need::Strace]),
    Case::new("dns/a_thousand_names_take_four_megabytes", &["D-082"], memory),
    Case::new("dns/an_add_starts_no_program_when_a_responder_runs", &["D-083"], programs)
        .needs(&[Need::Strace]),
];

/// Queries per second.
const RATE: u32 = 2000;

/// CPU time of a process (Documentation/scheduler/sched-stats.rst).
fn spent(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    Ok(Duration::from_nanos(first.with_context(|| text.clone())?))
}

/// As in CVE-2024-8418 and CVE-2026-35406 of another resolver: a silent connection blocked all
/// others, and a partial frame followed by the end used all of a CPU.
fn connections(room: &Room) -> Result<()> {
    let _named = Named::add(room, "c1", "web", json!({}))?;
    let other = Named::add(room, "c2", "db", json!({}))?;
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let mut kept = room.inside("c1", || {
        let mut kept: Vec<TcpStream> = vec![];
        for half in [&[][..], &[0], &[0, 30], &[0, 30, 1, 2, 3]] {
            let mut closing = connect(at)?;
            closing.write_all(half)?;
            closing.shutdown(std::net::Shutdown::Write)?;
            ensure!(matches!(closing.read(&mut [0; 9]), Ok(0)), "still open after the end of {half:?}");
            let mut waiting = connect(at)?;
            waiting.write_all(half)?;
            kept.push(waiting);
        }
        for _ in 0..300 {
            kept.push(connect(at)?);
        }
        Ok(kept)
    })?;
    let pid = responder_pid()?;
    let (before, began) = (spent(pid)?, Instant::now());
    room.inside("c2", || {
        let mut stream = connect(at)?;
        stream.write_all(&framed(&Question::new("db", kind::A).message(ID)?)?)?;
        ensure!(
            read_frame(&mut stream)?.ends_with(&other.address(false).parse::<std::net::Ipv4Addr>()?.octets())
        );
        Ok(())
    })?;
    expect(room, Some("c1"), GATEWAYS[0], "db", &[&other.address(false)])?;
    // The responder closes all connections in the end, and is idle until then.
    for stream in &mut kept {
        stream.set_read_timeout(Some(Duration::from_secs(15)))?;
        let end = stream.read(&mut [0; 9]);
        let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        ensure!(end.as_ref().map_or_else(reset, |count| *count == 0), "{end:?}");
    }
    let (spent, lasted) = (spent(pid)? - before, began.elapsed());
    ensure!(spent * 20 < lasted, "{spent:?} of {lasted:?} were spent on idle connections");
    Ok(())
}

/// Each ADD and DEL makes the responder reload.
fn come_and_go_under_load(room: &Room) -> Result<()> {
    let (_stay, names) = names(room, 4, 40)?;
    let load = Load::start(room, "r0", GATEWAYS[0], names.clone(), Pace::on_this_machine(RATE))?;
    let went = come_and_go(room, &names, 2, Duration::from_secs(4), on_this_machine(Duration::from_secs(8)))?;
    let tally = load.end()?;
    tally.ensure_perfect()?;
    ensure!(went >= 40, "only {went} containers came and went: {tally}");
    Ok(())
}

fn killed_under_load(room: &Room) -> Result<()> {
    let (stay, names) = names(room, 8, 0)?;
    let load = Load::start(room, "r0", GATEWAYS[0], names.clone(), Pace::on_this_machine(RATE))?;
    for verb in ["CHECK", "ADD"] {
        lasts(Duration::from_millis(200))?;
        kill_responder()?;
        let answer = stay[1].verb(room, verb)?;
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        // Queries during the restart may be lost; after it none is.
        let healed = Load::start(room, "r2", GATEWAYS[0], names.clone(), Pace::on_this_machine(RATE))?;
        for named in &stay {
            expect(room, Some("r3"), GATEWAYS[0], &named.name, &[&named.address(false)])?;
        }
        lasts(Duration::from_millis(300))?;
        healed.end()?.ensure_perfect().with_context(|| format!("after {verb}"))?;
    }
    let tally = load.end()?;
    ensure!(tally.wrong == 0, "{tally}: {:?}", tally.faults);
    Ok(())
}

/// Waits that long while the load continues.
fn lasts(time: Duration) -> Result<()> {
    let began = Instant::now();
    until(Duration::from_secs(5), "some of a second", || began.elapsed() > time)
}

fn reexec(room: &Room) -> Result<()> {
    let (stay, names) = names(room, 4, 0)?;
    let pid = responder_pid()?;
    // A record of a later version is there meanwhile.
    let record = records().into_iter().find(|path| path.ends_with("r3@eth0.json")).context("no record")?;
    let mut later: Value = serde_json::from_slice(&fs::read(&record)?)?;
    (later["v"], later["container"], later["names"]) = (json!(99), json!("later"), json!(["later"]));
    let path = record.with_file_name("later@eth0.json");
    fs::write(&path, later.to_string())?;
    let load = Load::start(room, "r0", GATEWAYS[0], names.clone(), Pace::on_this_machine(RATE))?;
    let exe = room.scratch("another");
    fs::copy(room.suite.join("dns"), &exe)?;
    let began = Instant::now();
    let mut round = 0;
    while round < 5 || began.elapsed() < Duration::from_secs(1) {
        round += 1;
        let answer = control(&json!({"ask": "reexec", "path": exe}).to_string())?;
        ensure!(!answer.is_empty() && !answer.contains("error"), "round {round}: {answer}");
        // The successor answers on the same socket, and is the same process.
        let answer: Value = serde_json::from_str(&control(r#"{"ask":"hello"}"#)?)?;
        ensure!(answer["pid"] == json!(pid), "round {round}: {answer}");
    }
    until(Duration::from_secs(2), "it is the other executable", || {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|link| link == exe)
    })?;
    load.end()?.ensure_perfect()?;
    for named in &stay {
        expect(room, Some("r1"), GATEWAYS[0], &named.name, &[&named.address(false)])?;
    }
    ensure!(resolve(room, Some("r1"), GATEWAYS[0], "later.net")?.is_empty(), "a later record is served");
    ensure!(fs::read(&path)? == later.to_string().as_bytes(), "the later record was changed");
    let none = control(&json!({"ask": "reexec", "path": "/none"}).to_string())?;
    ensure!(none.contains("error") && responder_pid()? == pid, "{none}");
    Ok(())
}

/// Queries that wait in the socket's buffer at once.
const WAITING: u16 = 128;

/// Many queries are received and answered by one system call each.
fn system_calls(room: &Room) -> Result<()> {
    let _named = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    let process = Pid::from_raw(pid.try_into()?);
    let at = SocketAddr::new(GATEWAYS[0].parse()?, 53);
    let socket = room.inside("c1", || client(at))?;
    kill(process, Signal::SIGSTOP)?;
    for id in 0..WAITING {
        socket.send(&Question::new("web", kind::A).message(id)?)?;
    }
    let strace = Attached::to(pid, &["-f"], &room.scratch("strace"))?;
    kill(process, Signal::SIGCONT)?;
    for _ in 0..WAITING {
        receive(&socket)?;
    }
    let log = strace.detach()?;
    let calls = log.lines().filter(|line| line.contains('(') && !line.contains("---")).count();
    ensure!(calls <= usize::from(WAITING) / 4, "{calls} calls for {WAITING} queries:\n{log}");
    Ok(())
}

/// System calls of the plugin for an ADD, and those of its responder that name or list files: its
/// others depend on how often it is woken. The least of three runs, since on a busy machine the
/// plugin polls more often.
fn least_calls_of_add(room: &Room, named: &Named) -> Result<(u64, u64)> {
    let mut least = (u64::MAX, u64::MAX);
    for _ in 0..3 {
        let calls = calls_of_add(room, named)?;
        least = (least.0.min(calls.0), least.1.min(calls.1));
    }
    Ok(least)
}

/// System calls of one run.
fn calls_of_add(room: &Room, named: &Named) -> Result<(u64, u64)> {
    let (own, theirs) = (room.scratch("strace.plugin"), room.scratch("strace.responder"));
    let pid = responder_pid()?;
    let strace = Attached::to(pid, &["-c", "-e", "trace=%file,getdents64"], &theirs)?;
    let wrapper = ["strace", "-f", "-c", "-qq", "-o", &own.display().to_string()].map(str::to_owned);
    call(room, "ADD", &named.container, &named.name, &named.config).under(&wrapper).run()?.result()?;
    let summary = strace.detach()?;
    let (calls, programs) = summary::totals(&fs::read_to_string(&own)?)?;
    ensure!(programs == 1, "the plugin started {} programs", programs - 1);
    let rows = summary.lines().filter(|line| !line.contains("total"));
    let responder = rows.filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok()).sum();
    Ok((calls, responder))
}

fn among_thousands(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let alone = least_calls_of_add(room, &named)?;
    with_records(room, &named, 5000 / 3)?;
    let new = with(&named.config, json!({"runtimeConfig": {"aliases": ["new"]}}));
    let among = least_calls_of_add(room, &Named { config: new, ..named })?;
    // One record among thousands is written and read alone. Counting the files of a
    // directory takes one call per some hundred.
    ensure!(
        among.0 <= alone.0 + 20 && alone.1 > 0 && among.1 <= alone.1 + 5,
        "calls: {alone:?} alone, {among:?} among 5,000 names"
    );
    expect(room, Some("c1"), GATEWAYS[0], "new", &["10.1.2.2"])?;
    expect(room, Some("c1"), GATEWAYS[0], "b1665", &["10.2.8.66"])
}

/// Resident memory of the responder, in KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse().ok()).context(status)
}

fn memory(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    for (names, most) in [(1_000, 4 << 10), (10_000, 12 << 10)] {
        with_records(room, &named, names / 3)?;
        for n in [0, names / 3 - 1] {
            let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new(&format!("a{n}"), kind::A))?;
            ensure!(reply.answers.len() == 1, "{reply:?}");
        }
        let held = resident(responder_pid()?)?;
        ensure!(held <= most, "{names} names take {held} KiB, more than {most}");
    }
    Ok(())
}

/// A child process is the largest cost of an ADD: only the first one starts a responder.
fn programs(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    let (calls, _) = least_calls_of_add(room, &named)?;
    ensure!(calls <= 200, "{calls} system calls");
    ensure!(responder_pid()? == pid && state_dirs().len() == 1, "the responder was replaced");
    Ok(())
}
