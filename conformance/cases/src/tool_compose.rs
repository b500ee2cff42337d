//! `moor compose`, `moor import` and `moor metrics`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::room::Room;
use harness::room::call::Answer;
use serde_json::Value;

use crate::tool::case;
use crate::tool_network::{DIR, bridge, done, write};
use crate::tool_network_rm::{attach, detach};

pub const CASES: &[Case] = &[
    case("tool/compose_makes_and_removes_the_projects_networks_alone", &["T-081"], compose),
    case("tool/import_makes_the_networks_of_docker_or_names_what_is_lost", &["T-083"], import),
    case("tool/metrics_agree_with_ps_and_leases", &["T-084"], metrics),
];

const BETWEEN: &str = include_str!("../../../testdata/tool/compose/between.yaml");
const DOCKER: &str = include_str!("../../../testdata/tool/import/docker-28.json");

/// Calls the tool; returns the answer when it ends with this status.
fn ends(room: &Room, words: &str, stdin: &str, status: i32) -> Result<Answer> {
    let words: Vec<_> = words.split(' ').collect();
    let answer = room.tool(&words).env("NETCONFPATH", DIR).stdin(stdin).run()?;
    ensure!(answer.status.code() == Some(status), "{words:?}: {}", answer.summary());
    Ok(answer)
}

/// The files of the configuration directory, with their inodes.
fn files() -> Result<BTreeMap<String, u64>> {
    let inode = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.ino()))
    };
    fs::read_dir(DIR)?.map(inode).collect()
}

fn compose(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let external = "  inout:\n    external: {name: inout}\n";
    let file = room.scratch("compose.yaml");
    fs::write(&file, format!("{BETWEEN}{external}"))?;
    let compose = |command: &str, status| {
        ends(room, &format!("compose -p shop -f {} {command}", file.display()), "", status)
    };

    let before = files()?;
    let refused = compose("create", 1)?;
    ensure!(refused.stderr.contains("compose.yaml:30:3: the external network inout"), "{}", refused.stderr);
    ensure!(files()? == before, "networks are made although an external one is missing");
    done(room, "create --label com.docker.compose.project=shop inout")?;
    let made = compose("create", 0)?;
    ensure!(made.stdout == b"shop_back\nshop_front\n", "create: {}", made.summary());
    let there = files()?;
    ensure!(there.len() == before.len() + 3, "{there:?}");
    let again = compose("create", 0)?;
    ensure!(again.stdout.is_empty() && files()? == there, "a second create: {}", again.summary());

    // Another content is named, and made anew when nobody uses the network.
    fs::write(&file, format!("{BETWEEN}{external}").replace("internal: yes", "internal: no"))?;
    let other = compose("create", 1)?;
    ensure!(other.stderr.contains("plugins[0].isGateway: is false, asked for true"), "{}", other.stderr);
    ensure!(files()? == there, "a difference changes a file");
    let user = attach(room, "shop_back", "c1")?;
    let used = compose("create --recreate", 1)?;
    ensure!(used.stderr.contains("shop_back is in use"), "{}", used.stderr);
    ensure!(compose("rm", 1)?.stdout == b"shop_front\n", "rm keeps more or less than what is used");
    detach(room, "shop_back", &user)?;
    let anew = compose("create --recreate", 0)?;
    ensure!(anew.stdout == b"shop_back\nshop_front\n", "create --recreate: {}", anew.summary());

    ensure!(compose("rm", 0)?.stdout == b"shop_front\nshop_back\n", "rm");
    let left: Vec<_> = files()?.into_keys().collect();
    ensure!(left == ["00-other.conflist", "moor-inout.conflist"], "left are {left:?}");
    ensure!(compose("rm", 0)?.stdout.is_empty(), "a second rm removes something");
    Ok(())
}

fn import(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    let before = files()?;
    let refused = ends(room, "import docker", DOCKER, 1)?;
    for lost in ["template is skipped", "routed: ConfigFrom", "gateway_mode_ipv4", "--lossy"] {
        ensure!(refused.stderr.contains(lost), "{lost} is not in {}", refused.stderr);
    }
    ensure!(files()? == before, "a refused import makes a network");

    // Without the network on a link that this host lacks.
    let mut networks: Vec<Value> = serde_json::from_str(DOCKER)?;
    networks.retain(|network| network["Driver"] != "ipvlan");
    let networks = serde_json::to_string(&networks)?;
    let dry = ends(room, "import docker --lossy --dry-run --json", &networks, 0)?;
    let document: Value = serde_json::from_slice(&dry.stdout)?;
    ensure!(document["items"].as_array().is_some_and(|items| items.len() == 2), "{document:#}");
    ensure!(files()? == before, "--dry-run makes a network");
    let made = ends(room, "import docker --lossy", &networks, 0)?;
    ensure!(made.stdout == b"dual\nrouted\n", "import: {}", made.summary());
    let inspected: Value = serde_json::from_str(&done(room, "inspect dual")?)?;
    ensure!(inspected[0]["Internal"] == true && inspected[0]["EnableIPv6"] == true, "{inspected:#}");
    let there = files()?;
    ends(room, "import docker --lossy", &networks, 0)?;
    ensure!(files()? == there, "a second import changes a file");
    Ok(())
}

/// The samples of a metric, each with its labels as they stand, and their sum.
fn samples(text: &str, name: &str) -> Result<(BTreeMap<String, f64>, f64)> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line:?}"))?;
        let value: f64 = value.parse().with_context(|| format!("no number: {line:?}"))?;
        let (metric, labels) = series.split_once('{').unwrap_or((series, "}"));
        ensure!(labels.ends_with('}'), "no end of the labels: {line:?}");
        if metric == name {
            ensure!(found.insert(labels.to_owned(), value).is_none(), "there twice: {line:?}");
        }
    }
    ensure!(text.contains(&format!("# TYPE {name} gauge\n")), "{name} has no type");
    let sum = found.values().sum();
    Ok((found, sum))
}

fn metrics(room: &Room) -> Result<()> {
    write("00-other.conflist", &bridge("other", "10.7.0.0/16"))?;
    done(room, "create front --subnet 10.90.7.0/24")?;
    let one = attach(room, "front", "c1")?;
    attach(room, "front", "c2")?;
    let file = room.scratch("moor.prom");
    fs::write(&file, "old")?;
    let old = fs::metadata(&file)?.ino();
    let shown = |words: &str| -> Result<Value> {
        let words: Vec<_> = words.split(' ').collect();
        let answer = room.tool(&words).env("NETCONFPATH", DIR).run()?;
        serde_json::from_slice(&answer.stdout).with_context(|| answer.summary())
    };
    let written = |room: &Room| -> Result<(String, bool)> {
        let words = ["metrics", "-o", &file.display().to_string()];
        let answer = room.tool(&words).env("NETCONFPATH", DIR).run()?;
        ensure!(
            matches!(answer.status.code(), Some(0 | 3)) && answer.stdout.is_empty(),
            "{}",
            answer.summary()
        );
        Ok((fs::read_to_string(&file)?, answer.status.code() == Some(0)))
    };
    let before = room.snapshot()?;
    let (text, is_complete) = written(room)?;
    room.ensure_unchanged(&before, "metrics")?;
    let meta = fs::metadata(&file)?;
    ensure!(meta.ino() != old && meta.mode() & 0o777 == 0o644, "the file is not replaced by rename");
    ensure!(!Path::new(&room.scratch(".moor-moor.prom")).exists(), "a draft is left");

    let attachments = shown("ps -a --json")?;
    let count = attachments["items"].as_array().context("ps")?.len();
    ensure!(samples(&text, "moor_attachments")?.1 == count as f64, "ps has {count}:\n{text}");
    let leases = shown("leases front --json")?;
    let (ranges, _) = samples(&text, "moor_range_addresses")?;
    for state in ["used", "free", "leaked"] {
        let labels = format!("network=\"front\",range=\"10.90.7.0/24\",state=\"{state}\"}}");
        let expected = leases["items"][0]["ranges"][0][state].as_f64();
        ensure!(ranges.get(&labels).copied() == expected, "{state}: leases has {expected:?}:\n{text}");
    }
    ensure!(ranges.iter().any(|(labels, value)| labels.contains("used") && *value == 2.0), "{text}");
    ensure!((samples(&text, "moor_scrape_complete")?.1 == 1.0) == is_complete, "{text}");
    ensure!(samples(&text, "moor_conflists")?.0.get("state=\"read\"}") == Some(&2.0), "{text}");

    detach(room, "front", &one)?;
    let (text, _) = written(room)?;
    ensure!(samples(&text, "moor_attachments")?.1 == (count - 1) as f64, "after DEL:\n{text}");
    Ok(())
}
