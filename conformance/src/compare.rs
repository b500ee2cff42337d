//! `conformance diff`: the same requests to two suites, and how their results differ.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use runtime::Attachment;
use serde_json::{Value, json};

use crate::cases::{VERSIONS, conflists};
use crate::golden;
use crate::need::Need;
use crate::room::Room;
use crate::runner::Grounds;

/// A difference from the reference that is meant: file, the versions it is in, its path, and why.
type Known = (&'static str, &'static [&'static str], &'static str, &'static str);

const OLD: &[&str] = &["0.1.0", "0.2.0"];
const MIDDLE: &[&str] = &["0.3.0", "0.3.1", "0.4.0"];
const NEW: &[&str] = &["1.0.0", "1.1.0"];

/// What is known to differ from the reference's 1.1.1 (Debian's package).
const KNOWN: &[Known] = &[
    (
        "",
        NEW,
        ".dns: expected {}, is absent",
        "an empty dns is left out from 1.0.0 on, as later reference versions do (C-051)",
    ),
    ("20-layer2", OLD, ".error: ", "refused before anything is touched, with more words (C-065)"),
    (
        "30-two-ranges",
        &[],
        "",
        "the reference cannot give a bridge two gateways of one family (bridge.md section 4)",
    ),
    ("99-loopback", OLD, "", "the reference does not convert loopback's result (others.md section 1)"),
    (
        "99-loopback",
        MIDDLE,
        ".ips[",
        "the reference does not convert loopback's result (others.md section 1)",
    ),
];

/// Why a difference is meant, if it is.
fn reason(file: &str, version: &str, line: &str) -> Option<&'static str> {
    let fits = |(known, versions, path, _): &&Known| {
        file.starts_with(known)
            && (versions.is_empty() || versions.contains(&version))
            && line.starts_with(path)
    };
    KNOWN.iter().find(fits).map(|(.., why)| *why)
}

/// Runs every conflist in every version through both suites, each in a room of its own, and prints the differences:
/// true when there are none but the known ones.
pub fn run(grounds: &Grounds, other: &Path) -> Result<bool> {
    ensure!(other.is_dir(), "{} is no directory", other.display());
    let suites = [grounds.clone(), Grounds { suite: other.canonicalize()?, ..grounds.clone() }];
    let mut lists = conflists::load(&grounds.net_d)?;
    for (need, why) in grounds.lacking(&[Need::Dummy, Need::Ipvlan, Need::VlanLinks]) {
        println!("Conflists that need {} are not compared: {why}", need.name());
        lists.retain(|(_, list)| !conflists::needs(list).contains(&need));
    }
    lists.retain(|(file, list)| {
        let mut types = list.plugins.iter().map(|plugin| &plugin.plugin_type);
        let Some((suite, plugin)) = types.find_map(|plugin| Some((lacks(&suites, plugin)?, plugin))) else {
            return true;
        };
        println!("{file} is not compared: {} has no {plugin}", suite.display());
        false
    });
    let files = lists.iter().map(|(file, _)| file.as_str());
    let requests: Vec<_> = files.flat_map(|file| VERSIONS.map(|version| (file, version))).collect();
    let answers = grounds.parallel(&requests, |(file, version)| -> Result<[Value; 2]> {
        let [one, two] = &suites;
        Ok([ask(one, file, version)?, ask(two, file, version)?])
    });
    println!(
        "ADD results of {} against those of {}; names and MACs apart",
        suites[0].suite.display(),
        other.display()
    );
    let (mut compared, mut as_known, mut differ) = (0, 0, 0);
    for ((file, version), answer) in requests.iter().zip(answers) {
        let [ours, theirs] = answer.with_context(|| format!("{file} {version}"))?;
        if ours.is_null() || theirs.is_null() {
            println!("{file:<26}{version:<7} not compared: not both suites speak it");
            continue;
        }
        compared += 1;
        let found = golden::differences(&golden::masked(&theirs), &golden::masked(&ours));
        let (known, new): (Vec<_>, Vec<_>) =
            found.iter().partition(|line| reason(file, version, line).is_some());
        let word = match (known.as_slice(), new.as_slice()) {
            ([], []) => "equal",
            (_, []) => "differs as known",
            _ => "differs",
        };
        println!("{file:<26}{version:<7} {word}");
        let mut reasons: Vec<_> = known.iter().filter_map(|line| reason(file, version, line)).collect();
        reasons.dedup();
        reasons.iter().for_each(|why| println!("      {why}"));
        new.iter().for_each(|line| println!("      {line}"));
        as_known += usize::from(word == "differs as known");
        differ += usize::from(word == "differs");
    }
    println!("{compared} compared, {as_known} differ as known, {differ} differ otherwise");
    Ok(differ == 0)
}

/// The suite that has no such plugin.
fn lacks<'s>(suites: &'s [Grounds], plugin: &str) -> Option<&'s Path> {
    suites.iter().map(|grounds| grounds.suite.as_path()).find(|suite| !suite.join(plugin).is_file())
}

fn ask(grounds: &Grounds, file: &str, version: &str) -> Result<Value> {
    let done = grounds.run(&format!("answer:{file} {version}"))?;
    if let Some(trouble) = done.trouble {
        bail!("ask the suite in {}: {trouble}", grounds.suite.display());
    }
    serde_json::from_str(&done.stdout).context("read the answer")
}

/// The job of one room, `<file> <version>`: prints ADD's result, or `{"error": ...}`, or `null` when a plugin of the
/// list does not speak the version.
pub fn answer_job(room: &Room, request: &str) -> Result<()> {
    let (file, version) = request.split_once(' ').with_context(|| format!("{request:?} is no request"))?;
    let mut list = runtime::Conflist::from_file(room.net_d.join(file)).context("load the conflist")?;
    list.version = version.to_owned();
    for plugin in &list.plugins {
        if !room.versions_of(&plugin.plugin_type)?.contains(&list.version) {
            println!("null");
            return Ok(());
        }
    }
    conflists::stage(room, &list)?;
    let container = room.container("c1")?;
    let netns = container.path.display().to_string();
    let attachment = Attachment::new(&container.id, netns, conflists::ifname(&list));
    let answer = conflists::runtime(room).add(&list, &attachment);
    println!("{}", answer.unwrap_or_else(|error| json!({"error": error.to_string()})));
    Ok(())
}
