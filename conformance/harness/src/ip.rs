//! iproute2 as the independent observer: the harness sets up and inspects everything through it,
//! never through a suite's code.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use crate::patience::on_this_machine;

/// Runs `ip` with these arguments in the room's own namespace. On return, addresses that it adds
/// with `nodad` are usable.
pub fn run(args: &[&str]) -> Result<()> {
    perform(None, args)
}

/// The same in the namespace of that name.
pub fn run_in(ns: &str, args: &[&str]) -> Result<()> {
    perform(Some(ns), args)
}

fn perform(ns: Option<&str>, args: &[&str]) -> Result<()> {
    let ns_args = ns.map_or(vec![], |ns| vec!["-n", ns]);
    output("ip", &[&ns_args[..], args].concat())?;
    if args.contains(&"nodad") { wait_until_usable(ns) } else { Ok(()) }
}

/// Waits for addresses without duplicate detection: until a worker of the kernel has made the route
/// that delivers to an address, packets to it are dropped.
fn wait_until_usable(ns: Option<&str>) -> Result<()> {
    let deadline = Instant::now() + on_this_machine(Duration::from_secs(2));
    loop {
        let [links, routes] =
            several(ns, &["-6"], ["addr show up scope global", "route show table local type local"])?;
        let infos = links.iter().filter_map(|row| row["addr_info"].as_array()).flatten();
        let waiting: Vec<_> = infos
            .filter(|info| info["nodad"] == true && !routes.iter().any(|route| route["dst"] == info["local"]))
            .map(|info| &info["local"])
            .collect();
        if waiting.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no packet can be delivered to {waiting:?} yet");
    }
}

/// Runs several commands, one per line, with words separated by spaces.
pub fn script(ns: Option<&str>, lines: &str) -> Result<()> {
    let mut lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.try_for_each(|line| perform(ns, &line.split_whitespace().collect::<Vec<_>>()))
}

/// The same in one process, for commands without options; nothing is waited for.
pub fn batch(ns: Option<&str>, lines: &str) -> Result<()> {
    let ns_args = ns.map_or(vec![], |ns| vec!["-n", ns]);
    fed("ip", &[&ns_args[..], &["-batch", "-"]].concat(), lines).map(drop)
}

/// The rows of `ip -j ...`; empty output is no rows.
pub fn rows(ns: Option<&str>, args: &[&str]) -> Result<Vec<Value>> {
    let ns_args = ns.map_or(vec![], |ns| vec!["-n", ns]);
    let text = output("ip", &[&ns_args[..], &["-j"], args].concat())?;
    if text.trim().is_empty() {
        return Ok(vec![]);
    }
    match serde_json::from_str(&text).with_context(|| format!("read the output of ip -j {args:?}: {text}"))? {
        Value::Array(rows) => Ok(filled(rows)),
        other => bail!("ip -j {args:?} printed no list: {other}"),
    }
}

/// The rows of several `ip -j ...` with the same options, in one process: starting the process is
/// the main cost.
pub fn several<const N: usize>(
    ns: Option<&str>,
    options: &[&str],
    commands: [&str; N],
) -> Result<[Vec<Value>; N]> {
    let ns_args = ns.map_or(vec![], |ns| vec!["-n", ns]);
    let args = [&ns_args[..], options, &["-j", "-batch", "-"]].concat();
    let text = fed("ip", &args, &commands.map(|command| format!("{command}\n")).concat())?;
    let lists = serde_json::Deserializer::from_str(&text).into_iter::<Vec<Value>>();
    let lists = lists.collect::<serde_json::Result<Vec<_>>>();
    let lists = lists.with_context(|| format!("read the output of ip {commands:?}: {text}"))?;
    let lists: [_; N] = lists.try_into().map_err(|_| anyhow!("ip {commands:?} printed {text}"))?;
    Ok(lists.map(filled))
}

/// The link of that name with its details, if it exists.
pub fn link(ns: Option<&str>, name: &str) -> Result<Option<Value>> {
    Ok(rows(ns, &["-d", "link", "show"])?.into_iter().find(|row| row["ifname"] == name))
}

/// The addresses on a link as `address/length`, without link-local ones.
pub fn addresses(ns: Option<&str>, name: &str) -> Result<Vec<String>> {
    let rows = rows(ns, &["addr", "show", "dev", name])?;
    let list = rows.iter().filter_map(|row| row["addr_info"].as_array()).flatten();
    Ok(list
        .filter(|info| info["scope"] != "link")
        .filter_map(|info| Some(format!("{}/{}", info["local"].as_str()?, info["prefixlen"])))
        .collect())
}

/// The IPv6 addresses of a link that are not usable yet: duplicate address detection is under way.
/// Without link-local ones, and those of a router that anybody may be: they come after ADD.
pub fn tentative(ns: Option<&str>, name: &str) -> Result<Vec<String>> {
    let rows = rows(ns, &["-6", "addr", "show", "dev", name, "scope", "global"])?;
    let list = rows.iter().filter_map(|row| row["addr_info"].as_array()).flatten();
    Ok(list
        .filter(|info| info["tentative"] == true && info["mngtmpaddr"] != true)
        .map(|info| info["local"].to_string())
        .collect())
}

/// The names of the links in a namespace.
pub fn links(ns: Option<&str>) -> Result<Vec<String>> {
    Ok(rows(ns, &["link", "show"])?
        .iter()
        .filter_map(|row| row["ifname"].as_str().map(str::to_owned))
        .collect())
}

/// Drops the empty objects that stand for filtered rows.
fn filled(rows: Vec<Value>) -> Vec<Value> {
    rows.into_iter().filter(|row| row.as_object().is_some_and(|o| !o.is_empty())).collect()
}

/// Runs a program that must succeed; returns its standard output.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    fed(program, args, "")
}

/// The same with a standard input that fits a pipe.
fn fed(program: &str, args: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start {program} (is it installed?)"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read its input does not need it.
        pipe.write_all(input.as_bytes()).ok();
    }
    let done = child.wait_with_output().with_context(|| format!("wait for {program}"))?;
    let stderr = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {}: {}", args.join(" "), stderr.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}
