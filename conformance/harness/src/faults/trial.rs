//! One fault in one room: prepare, inject, and check what is left.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Hits;
use super::hosts::OnHost;
use super::leases::Leases;
use super::target::{Part, Target};
use crate::config::with;
use crate::fake::Fake;
use crate::namespace::Container;
use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::stage::dns::{self, Named};
use crate::stage::lan::vlan_outside;
use crate::stage::portmap::{bridged, published};
use crate::stage::reapply::reapply;
use crate::stage::tuning::{kept, linked};
use crate::stage::two_ways::two_ways;
use crate::strace::point::{Extent, Point, points, strace};
use crate::{diff, ip, processor};

/// The fault injected at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL at the start of the call.
    Kill,
    /// The call fails.
    Error,
}

/// The outcome of a trial that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The verb failed (or was killed), and nothing was left then or after DEL.
    Undone,
    /// The verb succeeded in spite of the fault, and completely.
    Tolerated,
    /// The run did not reach the point.
    NotReached,
}

/// The container.
pub(super) const ID: &str = "c1";

impl Fault {
    /// The fault with that name (`{:?}`).
    pub fn named(name: &str) -> Option<Self> {
        [Self::Kill, Self::Error].into_iter().find(|fault| format!("{fault:?}") == name)
    }
}

impl Outcome {
    /// Its name in a job's output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Undone => "undone",
            Self::Tolerated => "tolerated",
            Self::NotReached => "not reached",
        }
    }

    /// The outcome of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Undone, Self::Tolerated, Self::NotReached].into_iter().find(|known| known.name() == name)
    }
}

/// A prepared trial.
struct Trial<'r> {
    room: &'r Room,
    target: Target,
    container: Container,
    config: Value,
    log: PathBuf,
    leases: Option<Leases>,
    on_host: Option<OnHost<'r>>,
    /// The container before a plugin that changes what is there.
    inside: Vec<String>,
}

impl<'r> Trial<'r> {
    fn new(room: &'r Room, target: Target) -> Result<Self> {
        let log = room.scratch("strace");
        let mut config = target.config();
        let (mut leases, mut on_host) = (None, None);
        let container = match target.plugin {
            "dhcp" => {
                let container = room.container(ID)?;
                leases = Some(Leases::new(room)?);
                container
            }
            "dns" => {
                if target.part == Part::Beside {
                    Named::add(room, "neighbour", "db", json!({}))?;
                }
                let (container, previous) = bridged(room, ID)?;
                config["prevResult"] = previous;
                container
            }
            "firewall" => {
                let close = "add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }";
                if target.part != Part::Iptables {
                    ip::output("nft", &[close])?;
                }
                if target.part != Part::Itself {
                    let (neighbour, previous) = bridged(room, "neighbour")?;
                    let config = with(&config, json!({"prevResult": previous}));
                    room.attach("firewall", "ADD", &neighbour).config(&config).run()?.result()?;
                }
                let (container, previous) = bridged(room, ID)?;
                config["prevResult"] = previous;
                container
            }
            "portmap" => {
                if target.part == Part::Beside {
                    published(room, "neighbour", json!([{"hostPort": 7000, "containerPort": 80}]))?;
                }
                let (container, previous) = bridged(room, ID)?;
                config["prevResult"] = previous;
                container
            }
            "tuning" => {
                let (container, previous) = linked(room, ID)?;
                config["prevResult"] = previous;
                container
            }
            "bandwidth" => {
                let (container, previous) = bridged(room, ID)?;
                config["prevResult"] = previous;
                container
            }
            "macvlan" | "ipvlan" | "host-device" | "vlan" => {
                if matches!(target.part, Part::Vlan | Part::Access) {
                    vlan_outside(room)?
                } else {
                    drop(room.outside(&[])?)
                }
                room.container(ID)?
            }
            "sbr" | "vrf" => two_ways(room)?,
            "cluster" | "overlay" => {
                on_host = Some(OnHost::new(room, target.plugin, &config)?);
                room.container(ID)?
            }
            _ => room.container(ID)?,
        };
        let inside = Self::inside(room, target, &container)?;
        Ok(Self { room, target, container, config, log, leases, on_host, inside })
    }

    /// The container's state without the rule that the kernel makes with the first VRF; empty for
    /// plugins that make their link.
    fn inside(room: &Room, target: Target, container: &Container) -> Result<Vec<String>> {
        if !matches!(target.plugin, "sbr" | "tuning" | "vrf") {
            return Ok(Vec::new());
        }
        let mut lines = room.snapshot_in(container)?;
        lines.retain(|line| !line.contains("l3mdev"));
        Ok(lines)
    }

    fn call(&self, verb: &str) -> Call<'r> {
        if self.target.plugin == "dns" {
            return dns::call(self.room, verb, &self.container, "web", &self.config);
        }
        match &self.on_host {
            Some(place) => place.call(self.target.plugin, verb).config(&self.config),
            None => self.room.attach(self.target.plugin, verb, &self.container).config(&self.config),
        }
    }

    fn run(&self, call: Call<'_>) -> Result<Answer> {
        match &self.on_host {
            Some(place) => place.run(call),
            None => call.run(),
        }
    }

    fn verb(&self, verb: &str) -> Result<Answer> {
        self.run(self.call(verb))
    }

    fn snapshot(&self) -> Result<Vec<String>> {
        self.on_host.as_ref().map_or_else(|| self.room.snapshot(), OnHost::snapshot)
    }

    /// Runs the target's verb with its victim under strace.
    fn hit(&self, extent: Extent, inject: Option<String>) -> Result<Answer> {
        let words = strace(&self.log, extent, inject);
        if self.target.part != Part::Delegate {
            return self.run(self.call(self.target.verb).under(&words));
        }
        // Trace only the delegate's call for this verb, not the one that undoes it.
        let real = self.room.suite.join("host-local");
        let once = self.room.scratch("once");
        let script = format!(
            "if [ $CNI_COMMAND = {} ] && mkdir {}; then exec {} {real}; else exec {real}; fi",
            self.target.verb,
            once.display(),
            words.join(" "),
            real = real.display()
        );
        let wrapper = Fake::wrapper(self.room, "host-local", &script)?;
        self.call(self.target.verb).path_first(&wrapper.dir).run()
    }

    /// The attachment's leftovers.
    fn left(&self, before: &[String]) -> Result<Vec<String>> {
        if let Some(place) = &self.on_host {
            return place.left(before);
        }
        let mut left = self.room.left_since(before, &["br0"], &[ID])?;
        if self.target.plugin == "portmap" {
            // The bridge's parameters may change with its network, but this one belongs to the
            // ports.
            let changes = self.room.changes_since(before)?;
            left.extend(changes.into_iter().filter(|line| line.contains("route_localnet")));
            return Ok(left);
        }
        if self.target.plugin == "firewall" {
            // The bridge's port stays, and must be as it was.
            let port = self.config["prevResult"]["interfaces"][1]["name"].as_str().unwrap_or_default();
            let rows = ip::rows(None, &["-d", "link", "show", "dev", port])?;
            let is_isolated =
                rows.first().is_some_and(|row| row["linkinfo"]["info_slave_data"]["isolated"] == true);
            left.extend(is_isolated.then(|| format!("+ isolation of {port}")));
            return Ok(left);
        }
        if let Some(leases) = &self.leases {
            left.extend(leases.left()?);
            return Ok(left);
        }
        if self.target.plugin == "dns" {
            // With the last container, all records of its network go too.
            let changes = self.room.changes_since(before)?;
            let is_record = |line: &&String| line.contains("/run/moor/dns/") && line.contains(".json");
            left.extend(changes.into_iter().filter(|line| is_record(&line)));
            let inside = self.room.inside(ID, || ip::output("nft", &["list", "ruleset"]))?;
            left.extend(inside.lines().map(|line| format!("+ rule in the container: {line}")));
            return Ok(left);
        }
        // The container's link is the previous plugin's; its disciplines are at the host's end.
        if self.target.plugin == "bandwidth" {
            return Ok(left);
        }
        if !self.inside.is_empty() {
            let now = Self::inside(self.room, self.target, &self.container)?;
            left.extend(diff::lines(&self.inside, &now));
            if self.target.plugin == "tuning" {
                left.extend(kept());
            }
            return Ok(left);
        }
        let links = self.room.inside(ID, || Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let names = links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        left.extend(names.filter(|name| *name != "lo").map(|name| format!("+ link {name} in the container")));
        Ok(left)
    }

    fn ensure_nothing_left(&self, before: &[String], when: &str) -> Result<()> {
        let left = self.left(before)?;
        ensure!(left.is_empty(), "{when}, left behind: {}", crate::diff::shown(&left));
        Ok(())
    }

    /// Removes what the network keeps on disk after its last container, so that the next trial
    /// meets the host in its first state.
    fn forget(&self) -> Result<()> {
        for dir in ["/run/moor", "/var/lib/cni/networks"] {
            if let Err(error) = fs::remove_dir_all(dir)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("remove {dir}"));
            }
        }
        Ok(())
    }

    /// The network must still work: attach, CHECK, detach.
    fn works_again(&self, before: &[String]) -> Result<()> {
        let result = self.verb("ADD")?.result().context("ADD afterwards")?;
        self.check(&result).context("CHECK afterwards")?;
        self.verb("DEL")?.silent().context("DEL afterwards")?;
        self.ensure_nothing_left(before, "after a later ADD and DEL")
    }

    fn check(&self, result: &Value) -> Result<()> {
        let config = with(&self.config, json!({"prevResult": result}));
        self.run(self.call("CHECK").config(&config))?.silent()
    }
}

/// Lists the points of a target, one `syscall nth` per line.
pub fn list(room: &Room, target: Target, extent: Extent) -> Result<String> {
    processor::stay_on_one()?;
    let trial = Trial::new(room, target)?;
    if target.verb == "DEL" {
        trial.verb("ADD")?.result()?;
    }
    let answer = trial.hit(extent, None)?;
    ensure!(answer.succeeded(), "{} fails under strace without any fault: {}", target.name(), answer.stderr);
    let log = fs::read_to_string(&trial.log).context("read strace's log")?;
    Ok(points(&log).into_iter().map(|point| format!("{} {}\n", point.syscall, point.nth)).collect())
}

/// Runs trials one after the other; `report` gets each outcome. An error describes leftovers or
/// other damage.
pub fn run(room: &Room, hits: &Hits, report: impl Fn(Outcome)) -> Result<()> {
    processor::stay_on_one()?;
    let trial = Trial::new(room, hits.target)?;
    let before = trial.snapshot()?;
    for (index, point) in hits.points.iter().enumerate() {
        let outcome = one(&trial, &before, hits, point)?;
        // Where that takes longer than the fault, once for all of them.
        let is_due = trial.on_host.is_none() || index + 1 == hits.points.len();
        if is_due && outcome != Outcome::NotReached {
            trial.works_again(&before)?;
            trial.on_host.as_ref().map_or(Ok(()), OnHost::ensure_as_before)?;
        }
        report(outcome);
        if hits.target.shares_a_room() {
            trial.forget()?;
        }
    }
    Ok(())
}

fn one(trial: &Trial<'_>, before: &[String], hits: &Hits, point: &Point) -> Result<Outcome> {
    let (target, fault) = (hits.target, hits.fault);
    if target.verb == "DEL" {
        trial.verb("ADD")?.result()?;
    }
    let what = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error => format!("error={}", point.errno()),
    };
    let inject = format!("inject={}:{what}:when={}", point.syscall, point.nth);
    let answer = trial.hit(hits.extent, Some(inject))?;
    let log = fs::read_to_string(&trial.log).unwrap_or_default();
    if !log.contains("(INJECTED)") && !log.contains("killed by SIGKILL") {
        trial.verb("DEL")?;
        return Ok(Outcome::NotReached);
    }
    let killed = fault == Fault::Kill && target.part != Part::Delegate;
    let outcome = match (target.verb, killed, answer.succeeded()) {
        (_, true, true) => bail!("the process was killed and yet succeeded"),
        (_, true, false) => Outcome::Undone,
        ("ADD", false, true) => {
            trial.check(&answer.result()?).context("ADD succeeded, but CHECK fails")?;
            Outcome::Tolerated
        }
        ("ADD", false, false) => {
            ensure_error_object(&answer, point)?;
            trial.ensure_nothing_left(before, "after the failed ADD")?;
            Outcome::Undone
        }
        (_, false, true) => {
            trial.ensure_nothing_left(before, "after a DEL that succeeded")?;
            Outcome::Tolerated
        }
        (_, false, false) => {
            ensure_error_object(&answer, point)?;
            Outcome::Undone
        }
    };
    trial.verb("DEL")?.silent().context("DEL after the fault")?;
    if target.part == Part::Rules || matches!(target.plugin, "portmap" | "firewall") {
        // An undone or deleted attachment must not be reapplied.
        let plugin = if target.plugin == "firewall" { "portmap" } else { target.plugin };
        reapply(trial.room, plugin)?;
    }
    trial.ensure_nothing_left(before, "after DEL")?;
    trial.on_host.as_ref().map_or(Ok(()), OnHost::ensure_nothing_in_etcd).context("after DEL")?;
    Ok(outcome)
}

/// A failure must print an error object, unless writing itself was hit.
fn ensure_error_object(answer: &Answer, point: &Point) -> Result<()> {
    if answer.stdout.is_empty() && point.syscall.starts_with("write") {
        return Ok(());
    }
    answer.error().map(drop)
}
