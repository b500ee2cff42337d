//! A kernel worker closes the netfilter socket of a plugin that deleted packet rules: the kernel
//! makes whoever closes it wait until the memory of the rules is freed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::dns;
use harness::stage::portmap::{portmap, ruleset};
use serde_json::{Value, json};

use crate::portmap_life::one;

const IO_URING: &[Need] = &[Need::IoUring, Need::Strace];

pub const CASES: &[Case] = &[
    Case::new("rules/bridge_leaves_the_wait_for_deleted_rules_to_the_kernel", &["HO-38"], of_bridge)
        .needs(IO_URING),
    Case::new("rules/portmap_leaves_the_wait_for_deleted_rules_to_the_kernel", &["HO-38"], of_portmap)
        .needs(IO_URING),
    Case::new("rules/dns_leaves_the_wait_for_deleted_rules_to_the_kernel", &["HO-38"], of_dns)
        .needs(IO_URING),
    Case::new("rules/verbs_work_where_io_uring_is_forbidden", &["HO-39"], forbidden).needs(&[Need::Strace]),
];

/// How the netfilter sockets of a call were closed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Closes {
    by_kernel: usize,
    by_plugin: usize,
}

/// Reads a log of `strace -f`: a worker closes a file that an io_uring has, if the ring is closed
/// last.
fn closes(log: &str) -> Closes {
    let mut closes = Closes::default();
    // By process and descriptor: whether a ring has the socket.
    let mut open: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    for line in log.lines() {
        let Some((pid, call)) = line.split_once(' ') else { continue };
        let (call, result) = call.rsplit_once(" = ").unwrap_or((call, ""));
        let call = call.trim();
        if call.starts_with("socket(") && call.contains("NETLINK_NETFILTER") {
            open.insert((pid, result), false);
        } else if call.starts_with("io_uring_register(") && result == "0" {
            let files = call.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            if let Some(held) = files.and_then(|(files, _)| open.get_mut(&(pid, files))) {
                *held = true;
            }
        } else if let Some(fd) = call.strip_prefix("close(").and_then(|rest| rest.strip_suffix(')')) {
            match open.remove(&(pid, fd)) {
                Some(true) => closes.by_kernel += 1,
                Some(false) => closes.by_plugin += 1,
                None => {}
            }
        }
    }
    // Exiting closes the rest.
    closes.by_plugin += open.len();
    closes
}

fn traced<'r>(room: &Room, call: Call<'r>, inject: &[&str]) -> Result<(Answer, String)> {
    let log = room.scratch("closes");
    let file = log.display().to_string();
    let words = ["strace", "-f", "-qq", "-o", &file, "-e"];
    let trace = "trace=socket,close,?io_uring_setup,?io_uring_register";
    let answer = call.under(&[&words[..], &[trace], inject].concat()).run()?;
    Ok((answer, fs::read_to_string(&log)?))
}

/// Requires that the kernel closes all netfilter sockets of a call, of which there is one or more.
fn ensure_deferred(room: &Room, what: &str, call: Call<'_>) -> Result<Answer> {
    let (answer, log) = traced(room, call, &[])?;
    let closes = closes(&log);
    ensure!(closes.by_plugin == 0 && closes.by_kernel > 0, "{what}: {closes:?} in {log}");
    Ok(answer)
}

fn with_rules() -> Value {
    with(&bridge("1.1.0"), json!({"ipMasq": true, "macspoofchk": true}))
}

/// The configuration of a GC that keeps these containers.
fn keeping(config: &Value, ids: &[&str]) -> Value {
    let valid: Vec<_> = ids.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    with(config, json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid}))
}

fn of_bridge(room: &Room) -> Result<()> {
    let config = with_rules();
    // The network's chains exist.
    let neighbour = room.container("neighbour")?;
    room.attach("bridge", "ADD", &neighbour).config(&config).run()?.result()?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let call = |verb: &str, config: &Value| room.attach("bridge", verb, &container).config(config);
    for verb in ["DEL", "GC"] {
        // What only adds has nothing to wait for.
        let (added, log) = traced(room, call("ADD", &config), &[])?;
        added.result()?;
        ensure!(closes(&log) == Closes { by_kernel: 0, by_plugin: 1 }, "ADD: {log}");
        let call = match verb {
            "DEL" => call("DEL", &config),
            _ => room.call("bridge", "GC").config(&keeping(&config, &["neighbour"])),
        };
        ensure_deferred(room, verb, call)?.silent()?;
    }
    // A socket that finds nothing to delete waits for what portmap has deleted.
    let (plain, rules) = (bridge(USUAL), ruleset()?);
    call("ADD", &plain).run()?.result()?;
    ensure_deferred(room, "DEL without rules", call("DEL", &plain))?.silent()?;
    ensure!(ruleset()? == rules, "DEL without rules changed the rules");
    // The undo of a failed ADD deletes.
    let unreachable = json!({
        "type": "host-local", "subnet": "10.1.2.0/24", "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}],
    });
    let refused = with(&config, json!({"ipam": unreachable}));
    ensure_deferred(room, "failed ADD", call("ADD", &refused))?.error()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn of_portmap(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&with_rules()).run()?.result()?;
    let before = ruleset()?;
    let config = portmap(one(8080), &previous);
    for verb in ["DEL", "GC"] {
        room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        let call = match verb {
            "DEL" => room.attach("portmap", verb, &container).config(&config),
            _ => room.call("portmap", verb).config(&keeping(&config, &[])),
        };
        ensure_deferred(room, verb, call)?.silent()?;
        ensure!(ruleset()? == before, "{verb} left rules");
    }
    // The whole chain: the second plugin does not wait for the first one's deletions either.
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    let last = room.attach("bridge", "DEL", &container).config(&with_rules());
    ensure_deferred(room, "bridge's DEL after portmap's", last)?.silent()
}

fn of_dns(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    for (mode, port) in [("gateway", 5353), ("netns", 53)] {
        let keys = if mode == "netns" { json!({"mode": mode}) } else { json!({"port": port}) };
        let config = dns::dns(&previous, keys);
        for verb in ["DEL", "GC"] {
            let call = |verb: &str| dns::call(room, verb, &container, "web", &config);
            call("ADD").run()?.result().with_context(|| format!("mode {mode}"))?;
            let call = match verb {
                "DEL" => call(verb),
                _ => room.call("dns", verb).config(&keeping(&config, &[])),
            };
            ensure_deferred(room, &format!("{verb} in mode {mode}"), call)?.silent()?;
        }
    }
    Ok(())
}

/// An administrator (EPERM), a container runtime's filter (ENOSYS) and an old kernel (ENOSYS,
/// EINVAL) refuse it.
fn forbidden(room: &Room) -> Result<()> {
    for (call, errno) in [
        ("io_uring_setup", "EPERM"),
        ("io_uring_setup", "ENOSYS"),
        ("io_uring_register", "EINVAL"),
        ("io_uring_register", "ENOMEM"),
    ] {
        let refused = Refused { room, inject: format!("inject={call}:error={errno}") };
        refused.chain().with_context(|| format!("{call} fails with {errno}"))?;
    }
    Ok(())
}

struct Refused<'r> {
    room: &'r Room,
    inject: String,
}

impl Refused<'_> {
    fn chain(&self) -> Result<()> {
        let room = self.room;
        let before = room.snapshot()?;
        let container = room.container("c1")?;
        for verb in ["DEL", "GC"] {
            let bridge = |verb: &str| room.attach("bridge", verb, &container).config(&with_rules());
            let (added, _) = self.traced(bridge("ADD"))?;
            let config = portmap(one(8080), &added.result()?);
            let (added, _) = self.traced(room.attach("portmap", "ADD", &container).config(&config))?;
            added.result()?;
            match verb {
                "DEL" => {
                    self.refused(room.attach("portmap", "DEL", &container).config(&config))?;
                    self.refused(bridge("DEL"))?;
                }
                _ => {
                    self.refused(room.call("portmap", "GC").config(&keeping(&config, &[])))?;
                    self.refused(room.call("bridge", "GC").config(&keeping(&with_rules(), &[])))?;
                }
            }
            self.nothing_left(&before, &container).context(verb)?;
        }
        room.remove(&container)
    }

    fn traced(&self, call: Call<'_>) -> Result<(Answer, String)> {
        traced(self.room, call, &["-e", &self.inject])
    }

    /// A verb that asks for a ring, is refused one, and succeeds.
    fn refused(&self, call: Call<'_>) -> Result<()> {
        let (answer, log) = self.traced(call)?;
        answer.silent()?;
        let closes = closes(&log);
        ensure!(closes.by_kernel == 0 && closes.by_plugin > 0, "{closes:?} in {log}");
        ensure!(log.contains("(INJECTED)"), "nothing was refused: {log}");
        Ok(())
    }

    fn nothing_left(&self, before: &[String], container: &Container) -> Result<()> {
        self.room.ensure_nothing_left(before, &[&container.id])
    }
}
