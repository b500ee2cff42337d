//! firewall, `backend: firewalld`, with firewalld itself, and with buses that misbehave.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::firewalld::{Firewalld, odd_bus};
use harness::stage::portmap::at_once;
use harness::stage::reapply::mended;
use harness::strace::victim::Victim;
use serde_json::{Value, json};

use crate::firewall_iptables::{BOTH, add, firewall, silent};
use crate::portmap_iptables::reference;

pub const CASES: &[Case] = &[
    Case::new(
        "firewall_firewalld/sources_appear_and_go",
        &["FW-60", "FW-62", "FW-66", "FW-67", "FW-68"],
        life,
    )
    .needs(&[Need::Firewalld]),
    Case::new("firewall_firewalld/a_reload_takes_nothing_for_long", &["FW-61", "FW-63"], reload)
        .needs(&[Need::Firewalld]),
    Case::new("firewall_firewalld/each_suite_takes_over_from_the_other", &["FW-69"], takeover)
        .needs(&[Need::Firewalld, Need::Reference]),
    Case::new("firewall_firewalld/a_stopped_firewalld_is_not_waited_for_long", &["FW-64"], stopped)
        .needs(&[Need::Firewalld]),
    Case::new("firewall_firewalld/a_kill_or_a_failure_at_any_step_leaves_nothing", &["FW-70"], hit)
        .needs(&[Need::Firewalld, Need::Strace]),
    Case::new("firewall_firewalld/a_bus_that_misbehaves_is_an_error_in_seconds", &["FW-64", "FW-65"], odd),
];

const SOURCES: [&str; 2] = ["10.1.2.3/32", "2001:db8:1::3/128"];
/// The time limit of a call that nobody answers, and that of a busy machine.
const LIMIT: Duration = Duration::from_secs(9);

fn config() -> Value {
    firewall("auto", &BOTH)
}

fn expect(firewalld: &Firewalld, sources: &[&str]) -> Result<()> {
    let there = firewalld.sources("trusted")?;
    ensure!(there == sources, "the zone has {there:?}, not {sources:?}");
    Ok(())
}

fn nothing_recorded(room: &Room) -> Result<()> {
    let left: Vec<String> = room.files().into_iter().filter(|line| line.contains("intent/zone-")).collect();
    ensure!(left.is_empty(), "left: {left:?}");
    Ok(())
}

fn life(room: &Room) -> Result<()> {
    let status = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "backend": "firewalld"});
    let status = |keys: Value| room.call("firewall", "STATUS").config(&with(&status, keys)).run();
    let container = room.container("c1")?;
    let by_name = firewall("firewalld", &BOTH);
    // Nobody has its name: there is no bus at all.
    let call = || room.attach("firewall", "ADD", &container).config(&by_name).run();
    call()?.error_with(999, "firewalld")?;
    status(json!({}))?.error_with(50, "firewalld")?;
    silent(room, "DEL", &container, &by_name)?;
    let mut firewalld = Firewalld::start(room)?;
    status(json!({}))?.silent()?;
    status(json!({"firewalldZone": "no-such"}))?.error_with(50, "INVALID_ZONE")?;
    for config in [config(), by_name.clone()] {
        add(room, &container, &config)?;
        expect(&firewalld, &SOURCES)?;
        add(room, &container, &config)?;
        silent(room, "CHECK", &container, &config)?;
        let bare = json!({"cniVersion": USUAL, "name": "net", "type": "firewall", "backend": "iptables"});
        for _ in 0..2 {
            silent(room, "DEL", &container, &bare)?;
            expect(&firewalld, &[])?;
        }
        nothing_recorded(room)?;
    }
    // Another zone; DEL needs no configuration.
    let other = with(&config(), json!({"firewalldZone": "internal"}));
    add(room, &container, &other)?;
    ensure!(firewalld.sources("internal")? == SOURCES, "not in zone internal");
    silent(room, "DEL", &container, &json!({"cniVersion": USUAL, "name": "net", "type": "firewall"}))?;
    ensure!(firewalld.sources("internal")?.is_empty(), "left in zone internal");
    // An administrator's source, in the zone and in another one.
    firewalld.call("zone", "addSource", &["trusted", SOURCES[0]])?;
    add(room, &container, &config())?;
    expect(&firewalld, &SOURCES)?;
    silent(room, "DEL", &container, &config())?;
    expect(&firewalld, &SOURCES[..1])?;
    firewalld.call("zone", "removeSource", &["trusted", SOURCES[0]])?;
    firewalld.call("zone", "addSource", &["public", SOURCES[1]])?;
    let answer = room.attach("firewall", "ADD", &container).config(&config()).run()?;
    answer.error_with(999, "it is one of zone \"public\"")?;
    expect(&firewalld, &[])?;
    nothing_recorded(room)?;
    ensure!(firewalld.sources("public")? == SOURCES[1..], "the administrator's source is gone");
    firewalld.call("zone", "removeSource", &["public", SOURCES[1]])?;
    // The next holder of the addresses came before the DEL; then GC.
    let heir = room.container("c2")?;
    add(room, &container, &config())?;
    add(room, &heir, &config())?;
    silent(room, "DEL", &container, &config())?;
    expect(&firewalld, &SOURCES)?;
    let valid = |ids: &[&str]| -> Result<()> {
        let valid: Vec<Value> = ids.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let keys = json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid});
        room.call("firewall", "GC").config(&with(&config(), keys)).run()?.silent()
    };
    valid(&["c2"])?;
    expect(&firewalld, &SOURCES)?;
    valid(&[])?;
    expect(&firewalld, &[])?;
    nothing_recorded(room)?;
    // Several at once.
    let attached = (0..4).map(|n| {
        let container = room.container(&format!("d{n}"))?;
        Ok((container, firewall("auto", &[&format!("10.1.3.{n}/24")])))
    });
    let attached = attached.collect::<Result<Vec<_>>>()?;
    at_once(room, "ADD", &attached)?;
    ensure!(firewalld.sources("trusted")?.len() == 4, "{:?}", firewalld.sources("trusted")?);
    at_once(room, "DEL", &attached)?;
    expect(&firewalld, &[])?;
    // Its sources go with it.
    add(room, &container, &config())?;
    firewalld.end()?;
    silent(room, "DEL", &container, &config())?;
    nothing_recorded(room)
}

fn reload(room: &Room) -> Result<()> {
    let firewalld = Firewalld::start(room)?;
    let [first, second] = [room.container("c1")?, room.container("c2")?];
    let other = firewall("auto", &["10.1.2.4/24"]);
    let all = ["10.1.2.3/32", "10.1.2.4/32", "2001:db8:1::3/128"];
    add(room, &first, &config())?;
    add(room, &second, &other)?;
    expect(&firewalld, &all)?;
    let lose = |kind: &str| {
        firewalld.call("", kind, &[])?;
        expect(&firewalld, &[])
    };
    // A CHECK of one restores those of all; so does another ADD, and so does reapply.
    for kind in ["completeReload", "reload"] {
        lose(kind)?;
        let check = room.attach("firewall", "CHECK", &second).config(&other).run()?;
        mended(&check, "10.1.2.4/32")?;
        expect(&firewalld, &all)?;
    }
    lose("reload")?;
    add(room, &second, &other)?;
    expect(&firewalld, &all)?;
    lose("reload")?;
    let reapply = harness::ip::output(&room.suite.join("portmap").display().to_string(), &["reapply"]);
    reapply.context("reapply")?;
    expect(&firewalld, &all)?;
    // DEL restores nothing, and the next CHECK not what DEL took.
    lose("reload")?;
    silent(room, "DEL", &second, &other)?;
    silent(room, "CHECK", &first, &config())?;
    expect(&firewalld, &SOURCES)?;
    add(room, &second, &other)?;
    // Without a record, CHECK compares.
    harness::stage::reapply::forget_records()?;
    firewalld.call("zone", "removeSource", &["trusted", SOURCES[0]])?;
    let error = room.attach("firewall", "CHECK", &first).config(&config()).run()?.error()?;
    ensure!(error.msg.contains("10.1.2.3/32") && error.msg.contains("absent"), "{error}");
    ensure!(!error.msg.contains("2001:db8"), "{error}");
    expect(&firewalld, &all[1..])
}

fn takeover(room: &Room) -> Result<()> {
    let firewalld = Firewalld::start(room)?;
    let container = room.container("c1")?;
    // The reference's result of two addresses, one of which an administrator has made permanent.
    let theirs = |verb: &str| reference(room, "firewall", verb, &container).config(&config()).run();
    add(room, &container, &config())?;
    theirs("DEL")?.silent()?;
    expect(&firewalld, &[])?;
    silent(room, "DEL", &container, &config())?;
    theirs("ADD")?.result()?;
    expect(&firewalld, &SOURCES)?;
    silent(room, "CHECK", &container, &config())?;
    silent(room, "DEL", &container, &config())?;
    expect(&firewalld, &[])?;
    nothing_recorded(room)
}

/// A call that is ended when it waits for too long.
fn bounded(call: Call<'_>) -> Call<'_> {
    call.under(&["timeout", "-k", "1", "15"])
}

fn stopped(room: &Room) -> Result<()> {
    let firewalld = Firewalld::start(room)?;
    let [first, second] = [room.container("c1")?, room.container("c2")?];
    add(room, &first, &config())?;
    firewalld.stop(true)?;
    let began = Instant::now();
    thread::scope(|scope| -> Result<()> {
        // At once, so that the case takes no longer than one of them.
        let check = scope.spawn(|| {
            let answer = bounded(room.attach("firewall", "CHECK", &first)).config(&config()).run()?;
            answer.error_with(999, "org.fedoraproject.FirewallD1 did not answer within").map(drop)
        });
        let del = scope.spawn(|| -> Result<()> {
            let answer = bounded(room.attach("firewall", "DEL", &first)).config(&config()).run()?;
            answer.silent()?;
            ensure!(answer.stderr.contains("did not answer"), "DEL reports {:?}", answer.stderr);
            Ok(())
        });
        for thread in [check, del] {
            thread.join().map_err(|_| anyhow::anyhow!("a call panicked"))??;
        }
        Ok(())
    })?;
    ensure!(began.elapsed() < on_this_machine(LIMIT), "it took {:?}", began.elapsed());
    firewalld.stop(false)?;
    expect(&firewalld, &SOURCES)?;
    // The next ADD finishes what that DEL could not.
    add(room, &second, &firewall("auto", &["10.1.2.4/24"]))?;
    expect(&firewalld, &["10.1.2.4/32"])
}

fn hit(room: &Room) -> Result<()> {
    let firewalld = Firewalld::start(room)?;
    let first = room.container("c0")?;
    add(room, &first, &firewall("auto", &["10.1.2.9/24"]))?;
    let container = room.container("c1")?;
    // One source, since each step costs firewalld a change of its rules.
    let config = firewall("auto", &BOTH[..1]);
    let nothing_left = || expect(&firewalld, &["10.1.2.9/32"]);
    for verb in ["ADD", "DEL"] {
        let victim = Victim { room, plugin: "firewall", verb, container: &container, config: &config };
        let steps = victim.killed_at_each(nothing_left)? + victim.failed_at_each(nothing_left)?;
        ensure!(steps > 5, "only {steps} steps of {verb} were tried");
    }
    Ok(())
}

/// An answer of the bus: to the call of this serial, with this signature and body.
fn answer(serial: u32, signature: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![b'l', 2, 1, 1];
    bytes.extend(u32::try_from(body.len()).unwrap_or_default().to_le_bytes());
    bytes.extend([9, 0, 0, 0, 15, 0, 0, 0, 5, 1, b'u', 0]);
    bytes.extend(serial.to_le_bytes());
    bytes.extend([8, 1, b'g', 0, 1, signature, 0, 0]);
    bytes.extend(body);
    bytes
}

fn odd(room: &Room) -> Result<()> {
    let hello = || answer(1, b's', b"\x04\0\0\0:1.5\0");
    let mut huge = hello();
    huge[4..8].copy_from_slice(&[0xff; 4]);
    let running = || answer(2, b'b', &[1, 0, 0, 0]);
    let mut fields = hello();
    fields[12..16].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let buses = [
        ("silent", vec![], "org.freedesktop.DBus did not answer within"),
        ("silent-firewalld", vec![hello(), running()], "org.fedoraproject.FirewallD1 did not answer within"),
        ("garbage", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()], "does not speak D-Bus"),
        ("huge", vec![huge], "a message is too long"),
        ("fields", vec![fields], "a message is too long"),
        ("text", vec![answer(1, b's', &[0xff, 0xff, 0xff, 0xff])], "ends too early"),
        ("other", vec![hello(), answer(2, b'b', &[7, 0, 0, 0])], "a boolean is invalid"),
    ];
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    std::fs::create_dir_all(room.scratch("buses"))?;
    for (name, answers, _) in &buses {
        odd_bus(&room.scratch("buses").join(name), answers.clone())?;
    }
    let began = Instant::now();
    let call = |verb: &str, name: &str| {
        let address = format!("unix:path={}", room.scratch("buses").join(name).display());
        let call = bounded(room.attach("firewall", verb, &container));
        call.config(&firewall("firewalld", &BOTH)).env("DBUS_SYSTEM_BUS_ADDRESS", &address).run()
    };
    thread::scope(|scope| -> Result<()> {
        let call = &call;
        let add = |name, words| call("ADD", name)?.error_with(999, words).map(drop).context(name);
        let adds: Vec<_> =
            buses.iter().map(|(name, _, words)| scope.spawn(move || add(*name, *words))).collect();
        let del = |name| call("DEL", name)?.silent().context(name);
        let dels: Vec<_> = buses.iter().map(|(name, ..)| scope.spawn(move || del(*name))).collect();
        let mut calls = adds.into_iter().chain(dels);
        calls.try_for_each(|call| call.join().map_err(|_| anyhow::anyhow!("a call panicked"))?)
    })?;
    ensure!(began.elapsed() < on_this_machine(LIMIT), "it took {:?}", began.elapsed());
    let left = room.changes_since(&before)?;
    let is_lock = |line: &String| line.contains("/run/moor");
    ensure!(left.iter().all(is_lock), "left: {left:?}");
    ensure!(!Path::new("/run/moor/intent").read_dir()?.flatten().any(|file| file.file_name() != ".lock"));
    Ok(())
}
