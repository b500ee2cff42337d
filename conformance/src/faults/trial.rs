//! One fault in one room: prepare, hit, and look what is left.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::point::{Point, points, strace};
use crate::cases::dns_stage::{self, Named};
use crate::cases::lan::lan;
use crate::cases::portmap::{bridged, portmap, published};
use crate::cases::reapply::reapply;
use crate::cases::{USUAL, bridge, host_local, with};
use crate::fake::Fake;
use crate::ip;
use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::room::netns::Container;

/// Who is hit, in which verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The plugin that the runtime calls.
    pub plugin: &'static str,
    /// Its verb.
    pub verb: &'static str,
    /// On what stage, and who of those that take part.
    pub part: Part,
}

/// What is hit, on what stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The plugin itself.
    Itself,
    /// Its IPAM delegate.
    Delegate,
    /// Itself, with packet rules in its configuration.
    Rules,
    /// Itself, beside another attachment of its kind: what they share is there before and must stay.
    Beside,
    /// Itself, where something of it is in the container's namespace.
    Inside,
}

/// What is done to the process at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL as the call begins.
    Kill,
    /// The call fails.
    Error,
}

/// A trial that was good, or that was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The verb failed (or died), and nothing was left then or after DEL.
    Undone,
    /// The verb succeeded in spite of it, and its success was whole.
    Tolerated,
    /// The point was not passed in this run.
    NotReached,
}

/// All targets, in the order of the table.
pub const TARGETS: [Target; 21] = [
    Target::new("bridge", "ADD", Part::Itself),
    Target::new("bridge", "ADD", Part::Delegate),
    Target::new("bridge", "ADD", Part::Rules),
    Target::new("bridge", "DEL", Part::Itself),
    Target::new("bridge", "DEL", Part::Delegate),
    Target::new("bridge", "DEL", Part::Rules),
    Target::new("dns", "ADD", Part::Itself),
    Target::new("dns", "ADD", Part::Beside),
    Target::new("dns", "ADD", Part::Inside),
    Target::new("dns", "DEL", Part::Itself),
    Target::new("dns", "DEL", Part::Beside),
    Target::new("dns", "DEL", Part::Inside),
    Target::new("host-local", "ADD", Part::Itself),
    Target::new("host-local", "DEL", Part::Itself),
    Target::new("macvlan", "ADD", Part::Itself),
    Target::new("macvlan", "ADD", Part::Delegate),
    Target::new("macvlan", "DEL", Part::Itself),
    Target::new("portmap", "ADD", Part::Itself),
    Target::new("portmap", "ADD", Part::Beside),
    Target::new("portmap", "DEL", Part::Itself),
    Target::new("portmap", "DEL", Part::Beside),
];

const ID: &str = "c1";

impl Target {
    const fn new(plugin: &'static str, verb: &'static str, part: Part) -> Self {
        Self { plugin, verb, part }
    }

    /// For jobs: `bridge/ADD/itself`.
    pub fn name(self) -> String {
        let part = match self.part {
            Part::Itself => "itself",
            Part::Delegate => "delegate",
            Part::Rules => "rules",
            Part::Beside => "beside",
            Part::Inside => "inside",
        };
        format!("{}/{}/{part}", self.plugin, self.verb)
    }

    fn config(self) -> Value {
        match self.plugin {
            "bridge" if self.part == Part::Rules => {
                with(&bridge(USUAL), json!({"ipMasq": true, "macspoofchk": true}))
            }
            "bridge" => bridge(USUAL),
            "dns" if self.part == Part::Inside => dns_stage::dns(&Value::Null, json!({"mode": "netns"})),
            "dns" => dns_stage::dns(&Value::Null, json!({})),
            // Looking for duplicates takes a second, and is the kernel's.
            "macvlan" => lan("macvlan", &json!({"enabledad": false})),
            // Both families, every set that elements come to lie in; the previous result is known on the stage only.
            "portmap" => portmap(
                json!([
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
                    {"hostPort": 9090, "containerPort": 80, "hostIP": "10.1.2.1"},
                    {"hostPort": 3000, "hostPortEnd": 3099, "containerPort": 3000},
                ]),
                &Value::Null,
            ),
            _ => host_local(USUAL, "10.1.2.0/24"),
        }
    }
}

impl Outcome {
    /// For the report of a job.
    pub const ALL: [(Outcome, &'static str); 3] = [
        (Outcome::Undone, "undone"),
        (Outcome::Tolerated, "tolerated"),
        (Outcome::NotReached, "not reached"),
    ];
}

/// A trial in preparation.
struct Trial<'r> {
    room: &'r Room,
    target: Target,
    container: Container,
    config: Value,
    log: PathBuf,
}

impl<'r> Trial<'r> {
    fn new(room: &'r Room, target: Target) -> Result<Self> {
        let log = room.scratch("strace");
        let mut config = target.config();
        let container = match target.plugin {
            "dns" => {
                if target.part == Part::Beside {
                    Named::add(room, "neighbour", "db", json!({}))?;
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
            "macvlan" => {
                room.outside(&[])?;
                room.container(ID)?
            }
            _ => room.container(ID)?,
        };
        Ok(Self { room, target, container, config, log })
    }

    fn call(&self, verb: &str) -> Call<'r> {
        if self.target.plugin == "dns" {
            return dns_stage::call(self.room, verb, &self.container, "web", &self.config);
        }
        self.room.attach(self.target.plugin, verb, &self.container).config(&self.config)
    }

    /// The target's verb with its victim under strace.
    fn hit(&self, inject: Option<String>) -> Result<Answer> {
        let words = strace(&self.log, inject);
        if self.target.part != Part::Delegate {
            return self.call(self.target.verb).under(&words).run();
        }
        // Only the delegate's call of this very verb is watched, not the one that takes it back.
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

    /// What is left of the attachment now.
    fn left(&self, before: &[String]) -> Result<Vec<String>> {
        let mut left = self.room.left_since(before, &["br0"], &[ID])?;
        if self.target.plugin == "portmap" {
            // The bridge's parameters may change with its network, but this one is of the ports.
            let changes = self.room.changes_since(before)?;
            left.extend(changes.into_iter().filter(|line| line.contains("route_localnet")));
            return Ok(left);
        }
        if self.target.plugin == "dns" {
            // With the last container goes all that is recorded of its network.
            let changes = self.room.changes_since(before)?;
            let is_record = |line: &&String| line.contains("/run/moor/dns/") && line.contains(".json");
            left.extend(changes.into_iter().filter(|line| is_record(&line)));
            let inside = self.room.inside(ID, || ip::output("nft", &["list", "ruleset"]))?;
            left.extend(inside.lines().map(|line| format!("+ rule in the container: {line}")));
            return Ok(left);
        }
        let links = ip::links(Some(ID))?.into_iter().filter(|link| link != "lo");
        left.extend(links.map(|link| format!("+ link {link} in the container")));
        Ok(left)
    }

    fn ensure_nothing_left(&self, before: &[String], when: &str) -> Result<()> {
        let left = self.left(before)?;
        ensure!(left.is_empty(), "{when}, left behind: {}", crate::room::shown(&left));
        Ok(())
    }

    /// The network must still work: attach, CHECK, detach.
    fn works_again(&self, before: &[String]) -> Result<()> {
        let result = self.call("ADD").run()?.result().context("ADD afterwards")?;
        self.check(&result).context("CHECK afterwards")?;
        self.call("DEL").run()?.silent().context("DEL afterwards")?;
        self.ensure_nothing_left(before, "after a later ADD and DEL")
    }

    fn check(&self, result: &Value) -> Result<()> {
        let config = with(&self.config, json!({"prevResult": result}));
        self.call("CHECK").config(&config).run()?.silent()
    }
}

/// Lists the points of a target, one `syscall nth` per line.
pub fn list(room: &Room, target: Target) -> Result<String> {
    let trial = Trial::new(room, target)?;
    if target.verb == "DEL" {
        trial.call("ADD").run()?.result()?;
    }
    let answer = trial.hit(None)?;
    ensure!(answer.succeeded(), "{} fails under strace without any fault: {}", target.name(), answer.stderr);
    let log = fs::read_to_string(&trial.log).context("read strace's log")?;
    Ok(points(&log).into_iter().map(|point| format!("{} {}\n", point.syscall, point.nth)).collect())
}

/// One trial. An error says what was left, or what else was broken.
pub fn run(room: &Room, target: Target, fault: Fault, point: &Point) -> Result<Outcome> {
    let trial = Trial::new(room, target)?;
    let before = room.snapshot()?;
    if target.verb == "DEL" {
        trial.call("ADD").run()?.result()?;
    }
    let what = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error => format!("error={}", point.errno()),
    };
    let answer = trial.hit(Some(format!("inject={}:{what}:when={}", point.syscall, point.nth)))?;
    let log = fs::read_to_string(&trial.log).unwrap_or_default();
    if !log.contains("(INJECTED)") && !log.contains("killed by SIGKILL") {
        return Ok(Outcome::NotReached);
    }
    let killed = fault == Fault::Kill && target.part != Part::Delegate;
    let outcome = match (target.verb, killed, answer.succeeded()) {
        (_, true, true) => bail!("the process was killed and yet succeeded"),
        (_, true, false) => Outcome::Undone,
        ("ADD", false, true) => {
            trial.check(&answer.result()?).context("ADD says that it succeeded, but CHECK does not agree")?;
            Outcome::Tolerated
        }
        ("ADD", false, false) => {
            told_as_error(&answer, point)?;
            trial.ensure_nothing_left(&before, "after the failed ADD")?;
            Outcome::Undone
        }
        (_, false, true) => {
            trial.ensure_nothing_left(&before, "after a DEL that says it succeeded")?;
            Outcome::Tolerated
        }
        (_, false, false) => {
            told_as_error(&answer, point)?;
            Outcome::Undone
        }
    };
    trial.call("DEL").run()?.silent().context("DEL after the fault")?;
    if target.part == Part::Rules || target.plugin == "portmap" {
        // What did not come to its end, or was deleted, is not made again.
        reapply(room, target.plugin)?;
    }
    trial.ensure_nothing_left(&before, "after DEL")?;
    trial.works_again(&before)?;
    Ok(outcome)
}

/// A failure is told by an error object; only where writing itself was hit can there be none.
fn told_as_error(answer: &Answer, point: &Point) -> Result<()> {
    if answer.stdout.is_empty() && point.syscall.starts_with("write") {
        return Ok(());
    }
    answer.error().map(drop)
}
