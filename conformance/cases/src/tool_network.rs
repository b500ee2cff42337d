//! `moor network create`: a subnet that nothing has, a file that appears whole and is not the first.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{ScopedJoinHandle, scope};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::room::call::Answer;
use harness::room::{Room, administrator_writes};
use harness::strace::point::{Extent, points, strace};
use runtime::Conflist;
use serde_json::Value;

use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/create_chooses_a_subnet_that_nothing_has", &["T-012"], chosen),
    case("tool/create_refuses_a_subnet_that_another_has", &["T-013"], overlap),
    case("tool/create_at_once_gives_distinct_subnets_and_whole_files", &["T-014"], at_once),
    case("tool/a_killed_create_or_rm_leaves_no_half_file", &["T-014"], killed)
        .needs(&[Need::Tool, Need::Strace]),
    case("tool/create_becomes_the_first_file_only_when_asked", &["T-015"], first),
];

/// The configuration directory of the room.
pub const DIR: &str = "/etc/cni/net.d";

/// Calls `moor network`.
pub fn network(room: &Room, words: &str) -> Result<Answer> {
    let words: Vec<&str> = ["network"].into_iter().chain(words.split_whitespace()).collect();
    room.tool(&words).run()
}

/// Requires that `moor network` succeeds; returns its standard output.
pub fn done(room: &Room, words: &str) -> Result<String> {
    let answer = network(room, words)?;
    ensure!(answer.status.code() == Some(0), "network {words}: {}", answer.summary());
    Ok(String::from_utf8(answer.stdout)?)
}

/// Requires that `moor network` exits with 1 and prints all of `why` on standard error.
pub fn refused(room: &Room, words: &str, why: &[&str]) -> Result<()> {
    let answer = network(room, words)?;
    ensure!(answer.status.code() == Some(1), "network {words}: {}", answer.summary());
    for why in why {
        ensure!(answer.stderr.contains(why), "network {words}: no {why:?} in {}", answer.stderr);
    }
    Ok(())
}

/// Writes a conflist beside the tool's.
pub fn write(name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(DIR)?;
    administrator_writes(&Path::new(DIR).join(name), text)
}

/// A bridge network that somebody else made; it sorts before the tool's.
pub fn bridge(name: &str, subnet: &str) -> String {
    format!(
        r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"bridge","bridge":"x{name}","isGateway":true,
            "ipam":{{"type":"host-local","ranges":[[{{"subnet":"{subnet}"}}]]}}}}]}}"#
    )
}

/// The subnets of the network, from its file.
fn subnets(name: &str) -> Result<Vec<String>> {
    let text = fs::read(Path::new(DIR).join(format!("moor-{name}.conflist")))?;
    let list: Value = serde_json::from_slice(&text)?;
    let sets = list["plugins"][0]["ipam"]["ranges"].as_array().cloned().unwrap_or_default();
    Ok(sets.iter().filter_map(|set| Some(set[0]["subnet"].as_str()?.to_owned())).collect())
}

fn chosen(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.90.0.0/23"))?;
    ip::run(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    ip::script(
        None,
        "addr add 10.90.2.1/24 dev lan0
         link set lan0 up
         link set lan1 up
         route add 10.90.3.0/25 dev lan0 table 52
         route add blackhole 10.90.4.0/24
         route add 0.0.0.0/1 dev lan0
         route add 128.0.0.0/1 dev lan0",
    )?;
    let mut expected = "10.90.5.0/24";
    if Path::new("/etc/resolv.conf").is_file() {
        let servers = room.write("resolv.conf", "nameserver 10.90.5.53\n")?;
        ip::output("mount", &["--bind", &servers.display().to_string(), "/etc/resolv.conf"])?;
        expected = "10.90.6.0/24";
    }
    done(room, "create front --ipv6")?;
    let own = subnets("front")?;
    ensure!(own[0] == expected && own[1].starts_with("fd") && own[1].ends_with("/64"), "{own:?}");
    done(room, "rm front")?;
    done(room, "create front --ipv6")?;
    ensure!(subnets("front")? == own, "not the same subnets again: {:?}", subnets("front")?);

    // 256 subnets fill the pool; one that is free again is found. Another pool has room for more.
    for third in 0..256 {
        write(
            &format!("90-{third}.conflist"),
            &bridge(&format!("n{third}"), &format!("10.90.{third}.0/24")),
        )?;
    }
    refused(room, "create late", &["10.90.0.0/16 is used up", "MOOR_SUBNET_POOL"])?;
    fs::remove_file(Path::new(DIR).join("90-77.conflist"))?;
    done(room, "create late")?;
    ensure!(subnets("late")? == ["10.90.77.0/24"], "{:?}", subnets("late")?);
    for n in 0..3 {
        let name = format!("more{n}");
        let call = room.tool(&["network", "create", &name]).env("MOOR_SUBNET_POOL", "10.91.0.0/20,25");
        ensure!(call.run()?.succeeded(), "create {name}");
        let expected = format!("10.91.{}.{}/25", n / 2, n % 2 * 128);
        ensure!(subnets(&name)? == [expected.as_str()], "{name}: {:?}", subnets(&name)?);
    }
    Ok(())
}

fn overlap(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    ip::run(&["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"])?;
    let lines = "addr add 192.168.7.5/24 dev lan0\n link set lan0 up\n link set lan1 up\n route add 10.8.0.0/16 dev lan1 table 9";
    ip::script(None, lines)?;
    let before = room.snapshot()?;
    refused(
        room,
        "create a --subnet 10.7.9.0/24",
        &["10.7.9.0/24 overlaps network other", "00-other.conflist"],
    )?;
    refused(room, "create a --subnet 192.168.7.0/25", &["192.168.7.0/25 overlaps", "lan0"])?;
    refused(
        room,
        "create a --subnet 10.8.3.0/24",
        &["10.8.3.0/24 overlaps", "10.8.0.0/16", "lan1", "table 9"],
    )?;
    let lan = "-d macvlan --subnet 192.168.7.0/24 -o parent=";
    refused(room, &format!("create a {lan}lan1"), &["overlaps", "lan0"])?;
    refused(room, &format!("create a {lan}nope0"), &["nope0"])?;
    refused(room, "create a --interface-name lan0", &["lan0 is no bridge"])?;
    refused(room, "create a --interface-name xother", &["xother", "network other"])?;
    refused(room, "create other", &["other is there already", "00-other.conflist:1"])?;
    room.ensure_unchanged(&before, "refused networks")?;
    done(room, &format!("create lan {lan}lan0"))?;
    done(room, "create wide --subnet 10.7.9.0/24 --allow-overlap")?;
    let missing = room.tool(&["--cni-path", "/nowhere", "network", "create", "b"]).run()?;
    let text = &missing.stderr;
    ensure!(
        missing.status.code() == Some(1) && text.contains("bridge") && text.contains("/nowhere"),
        "{text}"
    );
    // What is dry changes nothing, and is what is written.
    let text = done(room, "create dry --label a=b --dry-run")?;
    ensure!(!Path::new(DIR).join("moor-dry.conflist").exists(), "a dry run wrote");
    done(room, "create dry --label a=b")?;
    ensure!(fs::read_to_string(Path::new(DIR).join("moor-dry.conflist"))? == text, "not as the dry run");
    done(room, "create dry --label a=b --ignore")?;
    refused(room, "create dry --label a=c --ignore", &["nerdctlLabels.a: is \"b\", asked for \"c\""])
}

fn at_once(room: &Room) -> Result<()> {
    const NAMES: usize = 10;
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let over = AtomicBool::new(false);
    let (answers, loads) = scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| -> Result<usize> {
            let mut loads = 0;
            while !over.load(Ordering::Relaxed) {
                // A broken file is an error, even of another network.
                Conflist::load(DIR, "other").context("a reader found half a file")?;
                loads += 1;
            }
            Ok(loads)
        });
        let makers: Vec<_> = (0..2 * NAMES)
            .map(|n| if n < NAMES { format!("n{n}") } else { "same".to_owned() })
            .map(|name| scope.spawn(move || network(room, &format!("create {name}"))))
            .collect();
        let answers: Vec<Result<Answer>> = makers.into_iter().map(joined).collect();
        over.store(true, Ordering::Relaxed);
        Ok((answers, joined(reader)?))
    })?;
    let answers: Vec<Answer> = answers.into_iter().collect::<Result<_>>()?;
    let made = answers.iter().filter(|answer| answer.succeeded()).count();
    let same = answers.iter().skip(NAMES).filter(|answer| answer.succeeded()).count();
    ensure!(made == NAMES + 1 && same == 1, "{made} networks, {same} of them of one name");
    let losers = answers.iter().filter(|answer| answer.status.code() == Some(1));
    ensure!(losers.count() == NAMES - 1, "a loser with another exit status");
    let mut all = BTreeSet::new();
    for name in (0..NAMES).map(|n| format!("n{n}")).chain(["same".to_owned()]) {
        all.extend(subnets(&name)?);
    }
    ensure!(all.len() == NAMES + 1 && loads > 0, "{loads} loads; the subnets are {all:?}");
    for entry in fs::read_dir(DIR)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        ensure!(name.ends_with(".conflist"), "{name} is left");
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        ensure!(mode == 0o644, "{name}: mode {mode:o}");
    }
    Ok(())
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

/// Kills the command at each system call that changes something. Its messages are questions, but the
/// last ones.
fn killed(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let file = Path::new(DIR).join("moor-front.conflist");
    for (words, other) in [
        (["network", "create", "front"].as_slice(), "rm -f front"),
        (&["network", "rm", "front"], "create front"),
    ] {
        let log = room.scratch("strace");
        let traced =
            |inject: Option<String>| room.tool(words).under(&strace(&log, Extent::All, inject)).run();
        let prepare = || -> Result<()> {
            let present = file.exists();
            if present == words.contains(&"create") { done(room, other).map(drop) } else { Ok(()) }
        };
        prepare()?;
        ensure!(traced(None)?.succeeded(), "{words:?} under strace");
        let mut steps = points(&fs::read_to_string(&log)?);
        let messages = steps.iter().filter(|step| step.is_message()).map(|step| step.nth).max().unwrap_or(0);
        steps.retain(|step| !step.is_message() || step.nth + 2 > messages);
        ensure!(steps.len() > 3, "{words:?}: {} steps", steps.len());
        for step in steps {
            prepare()?;
            let inject = format!("inject={}:signal=KILL:when={}", step.syscall, step.nth);
            traced(Some(inject))?;
            let at = format!("{words:?} killed at {} {}", step.syscall, step.nth);
            // Whole or not there, and nothing else that a runtime reads.
            let list = Conflist::load(DIR, "front");
            ensure!(list.is_ok() == file.exists(), "{at}: {list:?}");
            Conflist::load(DIR, "other").with_context(|| at.clone())?;
            for entry in fs::read_dir(DIR)? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                let known = ["00-other.conflist", "moor-front.conflist"].contains(&name.as_str());
                ensure!(known || name.starts_with('.'), "{at}: {name}");
            }
        }
        prepare()?;
        let again = network(room, &words[1..].join(" "))?;
        ensure!(again.succeeded(), "{words:?} after all: {}", again.summary());
        let left = fs::read_dir(DIR)?.count();
        ensure!(left == 1 + usize::from(file.exists()), "{words:?}: {left} names in {DIR}");
    }
    Ok(())
}

fn first(room: &Room) -> Result<()> {
    let answer = network(room, "create front")?;
    ensure!(answer.succeeded() && answer.stderr.contains("pods"), "no note: {}", answer.summary());
    refused(room, "create back", &["moor-front.conflist", "--first"])?;
    ensure!(!Path::new(DIR).join("moor-back.conflist").exists(), "it was written");
    let late = network(room, "create later")?;
    ensure!(late.succeeded() && !late.stderr.contains("pods"), "{}", late.summary());
    // A file that cannot be read is the first all the same.
    write("10-broken.conf", "{")?;
    let answer = network(room, "create zone")?;
    ensure!(answer.succeeded() && answer.stderr.contains("10-broken.conf"), "{}", answer.summary());
    fs::remove_file(Path::new(DIR).join("10-broken.conf"))?;
    done(room, "create back --first")?;
    let list: Value = serde_json::from_slice(&room.tool(&["--json", "network", "ls"]).run()?.stdout)?;
    let order: Vec<_> = list["items"].as_array().into_iter().flatten().map(|item| &item["name"]).collect();
    ensure!(order == ["back", "front", "later", "zone"] && list["items"][0]["first"] == true, "{list:#}");
    Ok(())
}
