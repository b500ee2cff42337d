//! `conformance upgrade`: one release takes another's place under running attachments, and gives it
//! back. Connections through published ports and questions for names go on all the while.

mod held;
mod install;
mod names;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use harness::diff::shown;
use harness::job::Kind;
use harness::room::Room;
use harness::room::call::Call;
use harness::runner::Grounds;
use harness::stage::dns::control;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Value, json};

use crate::paper::Paper;
use held::{Connection, Connections};
use install::install;

/// Containers that the second release attaches beside the first one's.
const NEW: usize = 10;
/// The first published port.
const PORTS: u16 = 20_000;
const BRIDGE: &str = "up0";
const GATEWAY: &str = "10.77.0.1";
/// The host's address outside.
const HOST: &str = "198.51.100.1";
/// What the network cannot be without, and what it has if both releases do.
const NEEDED: [&str; 4] = ["bridge", "host-local", "portmap", "dns"];
const WANTED: [&str; 2] = ["firewall", "tuning"];
/// Beside the attachments, which take time each.
const AROUND: Duration = Duration::from_secs(300);
const EACH: Duration = Duration::from_secs(5);

/// The jobs of its rooms. The other release is in the place of the reference.
pub const JOBS: &[Kind] = &[
    Kind::new("upgrade", |room, count| run_in(room, count, [&room.reference, &room.suite])),
    Kind::new("downgrade", |room, count| run_in(room, count, [&room.suite, &room.reference])),
];

/// Runs both directions: true when everything held.
pub fn run(grounds: &Grounds, from: &Path, attachments: usize) -> Result<bool> {
    let reference = from.canonicalize().with_context(|| format!("open {}", from.display()))?;
    let timeout = grounds.timeout.max(AROUND + EACH * u32::try_from(attachments)?);
    let grounds = Grounds { reference, timeout, ..grounds.clone() };
    let mut held = true;
    for job in ["upgrade", "downgrade"] {
        held &= grounds.show(&format!("{job}:{attachments}"))?;
    }
    Ok(held)
}

fn run_in(room: &Room, count: &str, releases: [&Path; 2]) -> Result<bool> {
    let mut paper = Paper::new();
    let trial = Trial::new(room, &mut paper, releases, count.parse().context("a number of attachments")?)?;
    let connections = &Connections::default();
    let ends = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| connections.run());
        let ask = |names: Vec<(String, String)>| {
            let asker = &trial.guests[trial.count - 1].container_id;
            let server = SocketAddr::new(GATEWAY.parse()?, 53);
            Ok(scope.spawn(move || room.inside(asker, || Ok(names::ask_until(ends, server, &names)))))
        };
        let done = trial.run(&mut paper, connections, ask, ends);
        // Also after an error: the scope waits for its threads.
        ends.store(true, Ordering::Relaxed);
        connections.end();
        done
    })?;
    Ok(paper.verdict())
}

/// A release: a directory, and what it prints of itself.
struct Release<'r> {
    dir: &'r Path,
    name: &'static str,
    version: String,
}

struct Trial<'r> {
    room: &'r Room,
    releases: [Release<'r>; 2],
    /// Where runtimes look: the releases take each other's place there.
    place: PathBuf,
    plugins: Vec<&'static str>,
    list: Conflist,
    runtime: Runtime,
    /// All containers; the last [`NEW`] are for the second release to attach.
    guests: Vec<Attachment>,
    /// How many the first release attaches.
    count: usize,
}

/// Asks for names in a thread.
type Asking<'s> = std::thread::ScopedJoinHandle<'s, Result<names::Seen>>;

impl<'r> Trial<'r> {
    fn new(room: &'r Room, paper: &mut Paper, dirs: [&'r Path; 2], count: usize) -> Result<Self> {
        let has = |plugin: &&str| dirs.iter().all(|dir| dir.join(plugin).is_file());
        let plugins: Vec<_> = NEEDED.into_iter().chain(WANTED.into_iter().filter(has)).collect();
        anyhow::ensure!(count >= 2, "at least two attachments are needed");
        if let Some(missing) = NEEDED.iter().find(|plugin| !has(plugin)) {
            anyhow::bail!("{} or {} has no {missing}", dirs[0].display(), dirs[1].display());
        }
        let [first, second] = dirs.map(|dir| version(room, dir));
        let releases = [
            Release { dir: dirs[0], name: "first", version: first? },
            Release { dir: dirs[1], name: "second", version: second? },
        ];
        paper.heading(&format!("{} attachments of one release, and another takes its place", count));
        for release in &releases {
            paper.line(&format!("the {:<7} {}  {}", release.name, release.version, release.dir.display()));
        }
        let list =
            Conflist::from_bytes(&serde_json::to_vec(&network(&plugins))?).map_err(|e| anyhow!("{e}"))?;
        let place = room.scratch("installed");
        let mut runtime = Runtime::new(vec![place.clone()], "/var/lib/cni");
        runtime.timeout = Duration::from_secs(60);
        runtime.forward_stderr = false;
        room.outside(&[])?;
        let guests = (0..count + NEW).map(|nth| guest(room, nth)).collect::<Result<_>>()?;
        Ok(Self { room, releases, place, plugins, list, runtime, guests, count })
    }

    fn run<'s>(
        &self,
        paper: &mut Paper,
        connections: &Connections,
        ask: impl FnOnce(Vec<(String, String)>) -> Result<Asking<'s>>,
        ends: &AtomicBool,
    ) -> Result<()> {
        let [first, second] = &self.releases;
        let before = self.room.snapshot()?;
        let half = self.count / 2;
        self.install(paper, first);
        let mut names = self.add(paper, first, 0..self.count, connections)?;
        // Those of the containers that go first are not asked for.
        let asking = ask(names.split_off(half.min(names.len().saturating_sub(1))))?;
        connections.see_a_round()?;

        paper.heading("The second takes its place");
        self.install(paper, second);
        connections.see_a_round()?;
        let attached = &self.guests[..self.count];
        self.each(paper, &format!("CHECK by the {}", second.name), attached, |one| {
            self.runtime.check(&self.list, one).map_err(|error| anyhow!("{error}"))
        });
        let began = Instant::now();
        let status = self.runtime.status(&self.list).map_err(|error| error.to_string());
        paper.step("STATUS", began.elapsed(), status);
        self.responder(paper);
        self.add(paper, second, self.count..self.guests.len(), connections)?;
        connections.see_a_round()?;
        connections.end_below(port(half));
        self.del(paper, second, &self.guests[..half]);
        connections.see_a_round()?;

        paper.heading("The first is back");
        self.install(paper, first);
        connections.see_a_round()?;
        let attached = &self.guests[half..];
        self.each(paper, &format!("CHECK by the {}", first.name), attached, |one| {
            self.runtime.check(&self.list, one).map_err(|error| anyhow!("{error}"))
        });
        connections.see_a_round()?;
        ends.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| anyhow!("the questions panicked"))??;
        connections.end();
        self.del(paper, first, attached);

        paper.heading("Meanwhile, and what is left");
        let mut told = |what: &str, longest: Duration, verdict: Result<String>| match verdict {
            Ok(line) => {
                paper.step(what, longest, Ok(()));
                paper.line(&format!("     {line}"));
            }
            Err(error) => paper.step(what, longest, Err(format!("{error:#}"))),
        };
        let seen = connections.seen();
        told("connections through published ports", seen.longest, seen.verdict());
        told("names, by a stub resolver", asked.longest, asked.verdict());
        let ids: Vec<&str> = self.guests.iter().map(|guest| guest.container_id.as_str()).collect();
        let left = self.room.left_since(&before, &[BRIDGE], &ids)?;
        let nothing = if left.is_empty() { Ok(()) } else { Err(shown(&left)) };
        paper.step("of the attachments: nothing", Duration::ZERO, nothing);
        Ok(())
    }

    fn install(&self, paper: &mut Paper, release: &Release<'_>) {
        let began = Instant::now();
        let done = install(release.dir, &self.place, &self.plugins);
        let what = format!("install {} files of the {}, by rename", self.plugins.len(), release.name);
        paper.step(&what, began.elapsed(), done.map_err(|error| format!("{error:#}")));
    }

    /// Attaches containers and connects to their ports; returns their names and addresses.
    fn add(
        &self,
        paper: &mut Paper,
        release: &Release<'_>,
        which: std::ops::Range<usize>,
        connections: &Connections,
    ) -> Result<Vec<(String, String)>> {
        let guests = &self.guests[which.clone()];
        let mut names = vec![];
        self.each(paper, &format!("ADD by the {}", release.name), guests, |one| {
            let result = self.runtime.add(&self.list, one).map_err(|error| anyhow!("{error}"))?;
            let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next());
            names.push((one.container_id.clone(), address.context("no address")?.to_owned()));
            Ok(())
        });
        for (nth, one) in which.zip(guests) {
            let host = SocketAddr::new(HOST.parse()?, port(nth));
            connections.hold(Connection::open(self.room, &one.container_id, host)?);
        }
        Ok(names)
    }

    fn del(&self, paper: &mut Paper, release: &Release<'_>, guests: &[Attachment]) {
        self.each(paper, &format!("DEL by the {}", release.name), guests, |one| {
            self.runtime.del(&self.list, one).map_err(|error| anyhow!("{error}"))
        });
    }

    /// Calls a verb for each of these; the time is that of one.
    fn each(
        &self,
        paper: &mut Paper,
        what: &str,
        guests: &[Attachment],
        mut call: impl FnMut(&Attachment) -> Result<()>,
    ) {
        let began = Instant::now();
        let failed: Vec<String> = guests
            .iter()
            .filter_map(|one| Some(format!("{}: {:#}", one.container_id, call(one).err()?)))
            .collect();
        let took = began.elapsed() / u32::try_from(guests.len().max(1)).unwrap_or(u32::MAX);
        let done = match failed.first() {
            None => Ok(()),
            Some(first) => Err(format!("{} of {} failed, the first: {first}", failed.len(), guests.len())),
        };
        paper.step(&format!("{what}: {}, each", guests.len()), took, done);
    }

    /// The responder of dns goes on as it is, or as the second release, if that is newer: the next
    /// call of a plugin has seen to it.
    fn responder(&self, paper: &mut Paper) {
        let hello = || -> Result<String> {
            let answer: Value = serde_json::from_str(&control(r#"{"ask":"hello"}"#)?)?;
            Ok(answer["build"].as_str().context("it does not name its build")?.to_owned())
        };
        let [first, second] = &self.releases;
        let done = hello().and_then(|build| match expected(&first.version, &second.version) == build {
            true => Ok(build),
            false => {
                Err(anyhow!("it is {build}, and plugins were {} and are {}", first.version, second.version))
            }
        });
        let (what, done) = match done {
            Ok(build) => (format!("the responder of dns is {build}"), Ok(())),
            Err(error) => ("the responder of dns".to_owned(), Err(format!("{error:#}"))),
        };
        paper.step(&what, Duration::ZERO, done);
    }
}

/// The version of the responder after plugins of `first` and then of `second` have called it: the
/// newer one's, and of two equals the one that was there.
fn expected<'v>(first: &'v str, second: &'v str) -> &'v str {
    let numbers = |version: &str| -> Vec<u64> {
        let (release, _commit) = version.split_once("-g").unwrap_or((version, ""));
        release.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    if numbers(second) > numbers(first) { second } else { first }
}

/// What `dns --version` prints behind the name.
fn version(room: &Room, dir: &Path) -> Result<String> {
    let answer = Call::new(room, dir.join("dns")).argv(&["--version"]).run()?;
    let text = String::from_utf8_lossy(&answer.stdout).into_owned();
    let word = text.split_whitespace().nth(1).filter(|_| answer.status.success());
    Ok(word.with_context(|| format!("dns --version: {}", answer.summary()))?.to_owned())
}

fn network(plugins: &[&str]) -> Value {
    let ranges = json!([[{"subnet": "10.77.0.0/16"}], [{"subnet": "fd00:77::/64"}]]);
    let mut list = vec![
        json!({
            "type": "bridge", "bridge": BRIDGE, "isDefaultGateway": true, "ipMasq": true,
            "ipam": {"type": "host-local", "ranges": ranges},
        }),
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "dns"}),
    ];
    if plugins.contains(&"firewall") {
        list.push(json!({"type": "firewall"}));
    }
    if plugins.contains(&"tuning") {
        list.push(json!({"type": "tuning", "mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}}));
    }
    json!({"cniVersion": "1.1.0", "name": "upgraded", "plugins": list})
}

fn port(nth: usize) -> u16 {
    u16::try_from(nth).ok().and_then(|nth| PORTS.checked_add(nth)).unwrap_or(u16::MAX)
}

/// A container with a name and a published port.
fn guest(room: &Room, nth: usize) -> Result<Attachment> {
    let id = format!("u{nth}");
    let container = room.container(&id)?;
    let mut guest = Attachment::new(&id, container.path.display().to_string(), "eth0");
    guest.args = vec![("IgnoreUnknown".into(), "1".into()), ("K8S_POD_NAME".into(), id)];
    let mappings = json!([{"hostPort": port(nth), "containerPort": 80, "protocol": "tcp"}]);
    guest.capabilities.insert("portMappings".into(), mappings);
    Ok(guest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_responder_is_the_newer_release() {
        assert_eq!(expected("0.1.0", "0.2.0"), "0.2.0");
        assert_eq!(expected("0.9.0", "0.10.0"), "0.10.0");
        assert_eq!(expected("0.2.0", "0.1.0"), "0.2.0");
        assert_eq!(expected("0.1.0", "0.1.0-3-gabc"), "0.1.0-3-gabc");
        assert_eq!(expected("0.1.0-3-gabc", "0.1.0-3-gdef"), "0.1.0-3-gabc");
    }
}
