//! `conformance stress`: many concurrent attachments on one network and one lease store, by two
//! suites, some of them killed; then a cluster whose etcd is disturbed. A seed determines the calls:
//! the same seed repeats them.

mod cluster;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::diff::shown;
use harness::job::{Kind, reported};
use harness::namespace::Container;
use harness::need::Need;
use harness::rng::Rng;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::runner::Grounds;
use serde_json::{Value, json};

/// Containers, of which up to [`AT_ONCE`] have a call at the same time. The ranges hold a few more.
const CONTAINERS: usize = 24;
const AT_ONCE: u64 = 10;
/// Rounds of one seed.
const ROUNDS: usize = 30;

const BRIDGE: &str = "br0";

/// The seeds, and the suites.
pub struct Options {
    /// The first seed.
    pub seed: u64,
    /// How many seeds, each in a room of its own.
    pub seeds: u64,
    /// Seconds that hosts of a cluster have load; with 0 there is no cluster.
    pub cluster: u64,
}

/// The jobs of a seed's room, and of a cluster's.
pub const JOBS: &[Kind] = &[
    Kind::new("stress", |room, seed| Ok(reported(room, job(room, seed)))),
    Kind::new("stress-cluster", |room, what| Ok(reported(room, cluster_job(room, what)))),
];

/// Beyond the load: a cluster is made, becomes whole, and is taken away.
const AROUND: Duration = Duration::from_secs(120);

/// Runs the seeds: true when all passed.
pub fn run(grounds: &Grounds, options: &Options) -> Result<bool> {
    let mut held = true;
    for seed in options.seed..options.seed.saturating_add(options.seeds) {
        let began = Instant::now();
        let done = grounds.run(&format!("stress:{seed}"))?;
        let took = began.elapsed().as_secs_f64();
        match done.trouble {
            None => println!("seed {seed}: {} ({took:.1} s)", done.stdout.trim()),
            Some(trouble) => {
                held = false;
                println!("seed {seed}: FAILED\n{trouble}\nagain: conformance stress --seed {seed} --seeds 1");
            }
        }
    }
    Ok(run_cluster(grounds, options)? && held)
}

/// The same for a cluster, with the first seed.
fn run_cluster(grounds: &Grounds, options: &Options) -> Result<bool> {
    let Options { seed, cluster: seconds, .. } = options;
    if *seconds == 0 {
        return Ok(true);
    }
    if let Some((need, why)) = grounds.lacking(&[Need::Etcd, Need::Overlay]).into_iter().next() {
        println!("cluster: not run, for lack of {}: {why}", need.name());
        return Ok(!harness::judge::strict());
    }
    let timeout = grounds.timeout + Duration::from_secs(*seconds) + AROUND;
    let grounds = Grounds { timeout, ..grounds.clone() };
    let began = Instant::now();
    let done = grounds.run(&format!("stress-cluster:{seed}/{seconds}"))?;
    let took = began.elapsed().as_secs_f64();
    match &done.trouble {
        None => println!("cluster, seed {seed}: {} ({took:.1} s)", done.stdout.trim()),
        Some(trouble) => println!(
            "cluster, seed {seed}: FAILED\n{trouble}\nagain: conformance stress --seeds 0 --seed {seed} --cluster {seconds}"
        ),
    }
    Ok(done.trouble.is_none())
}

fn cluster_job(room: &Room, what: &str) -> Result<()> {
    let (seed, seconds) = what.split_once('/').context("a seed and seconds")?;
    cluster::job(room, seed.parse()?, seconds.parse()?)
}

/// Prints the calls on standard output.
fn job(room: &Room, seed: &str) -> Result<()> {
    let mut rng = Rng::new(seed.parse().context("a seed is a number")?);
    let before = room.snapshot()?;
    let mut suites = vec![room.suite.clone()];
    // With a second suite on the same bridge and store, as during the migration of a node.
    suites.extend(Some(room.reference.clone()).filter(|dir| dir.join("bridge").is_file()));
    let mut stage = Stage { room, suites, members: vec![], done: HashMap::new() };
    for number in 0..CONTAINERS {
        let container = room.container(&format!("s{number}"))?;
        stage.members.push(Member { container, state: State::Absent });
    }
    for round in 0..ROUNDS {
        stage.round(&mut rng).with_context(|| format!("round {round}"))?;
    }
    for member in 0..CONTAINERS {
        stage.call(member, &Act { verb: "DEL", suite: 0, kill: None })?.silent().context("the last DEL")?;
    }
    let left = room.left_since(&before, &[BRIDGE], &[])?;
    ensure!(left.is_empty(), "left behind: {}", shown(&left));
    let mut done: Vec<_> = stage.done.into_iter().map(|(what, times)| format!("{times} {what}")).collect();
    done.sort();
    println!("{}", done.join(", "));
    Ok(())
}

/// The state of a container.
enum State {
    /// Not attached.
    Absent,
    /// Attached, by that suite with that result.
    Attached(usize, Value),
    /// A call was killed: only DEL is allowed (C-053).
    Unknown,
}

struct Member {
    container: Container,
    state: State,
}

/// One call.
#[derive(Clone, Debug)]
struct Act {
    verb: &'static str,
    suite: usize,
    /// After how many microseconds it is killed.
    kill: Option<u64>,
}

struct Stage<'r> {
    room: &'r Room,
    suites: Vec<PathBuf>,
    members: Vec<Member>,
    done: HashMap<String, usize>,
}

impl Stage<'_> {
    /// Some containers, each with an act that its state allows, all concurrently; then the state
    /// must be consistent.
    fn round(&mut self, rng: &mut Rng) -> Result<()> {
        let mut acts: Vec<(usize, Act)> = vec![];
        for _ in 0..=rng.below(AT_ONCE) {
            let member = usize::try_from(rng.below(CONTAINERS as u64))?;
            // Only one call for a container at a time (C-053).
            if acts.iter().all(|(other, _)| *other != member) {
                acts.push((member, self.choose(member, rng)?));
            }
        }
        let stage = &*self;
        let answers = std::thread::scope(|scope| {
            let calls: Vec<_> =
                acts.iter().map(|(member, act)| scope.spawn(move || stage.call(*member, act))).collect();
            let joined =
                calls.into_iter().map(|call| call.join().map_err(|_| anyhow!("a thread panicked"))?);
            joined.collect::<Result<Vec<Answer>>>()
        })?;
        settle()?;
        for ((member, act), answer) in acts.iter().zip(answers) {
            let who = if act.suite == 0 { "ours" } else { "other's" };
            *self
                .done
                .entry(format!("{} {who}{}", act.verb, if act.kill.is_some() { " killed" } else { "" }))
                .or_default() += 1;
            self.note(*member, act, &answer)
                .with_context(|| format!("{act:?} of {}", self.members[*member].container.id))?;
        }
        self.nobody_shares_an_address()
    }

    fn choose(&self, member: usize, rng: &mut Rng) -> Result<Act> {
        let any = usize::try_from(rng.below(self.suites.len() as u64))?;
        // Most calls have ended by then, some have not.
        let kill = (rng.below(4) == 0).then(|| 200 + rng.below(6000));
        Ok(match &self.members[member].state {
            State::Absent if rng.below(8) == 0 => Act { verb: "DEL", suite: any, kill: None },
            State::Absent => Act { verb: "ADD", suite: any, kill },
            State::Attached(by, _) if rng.below(3) == 0 => Act { verb: "CHECK", suite: *by, kill: None },
            State::Attached(..) => Act { verb: "DEL", suite: any, kill },
            // Ours cleans up objects that ours left incomplete.
            State::Unknown => Act { verb: "DEL", suite: 0, kill: None },
        })
    }

    fn call(&self, member: usize, act: &Act) -> Result<Answer> {
        let (member, dir) = (&self.members[member], &self.suites[act.suite]);
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "bridge", "bridge": BRIDGE, "isDefaultGateway": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/27"}], [{"subnet": "2001:db8:1::/64"}]]},
        });
        if let (State::Attached(_, result), true) = (&member.state, act.verb != "ADD") {
            config["prevResult"] = result.clone();
        }
        let mut call = Call::new(self.room, dir.join("bridge"))
            .env("CNI_COMMAND", act.verb)
            .env("CNI_PATH", dir)
            .env("CNI_CONTAINERID", &member.container.id)
            .env("CNI_NETNS", &member.container.path)
            .env("CNI_IFNAME", "eth0")
            .config(&config);
        if let Some(after) = act.kill {
            let seconds = format!("0.{after:06}");
            call = call.under(&["timeout", "-s", "KILL", &seconds]);
        }
        call.run()
    }

    /// Updates the container's state by the answer; an error is an answer that must not be.
    fn note(&mut self, member: usize, act: &Act, answer: &Answer) -> Result<()> {
        let member = &mut self.members[member];
        // Its output is ignored: a runtime does not read the answer of a call that it has killed.
        let killed = act.kill.is_some() && matches!(answer.status.code(), None | Some(137));
        match act.verb {
            _ if killed => member.state = State::Unknown,
            "ADD" => member.state = State::Attached(act.suite, answer.result()?),
            "DEL" => {
                answer.silent()?;
                member.state = State::Absent;
            }
            _ => answer.silent()?,
        }
        Ok(())
    }

    fn nobody_shares_an_address(&self) -> Result<()> {
        let mut owners: HashMap<String, &str> = HashMap::new();
        for member in &self.members {
            let State::Attached(_, result) = &member.state else { continue };
            for ip in result["ips"].as_array().context("a result without addresses")? {
                let address = ip["address"].as_str().context("an address that is not a string")?.to_owned();
                if let Some(other) = owners.insert(address.clone(), &member.container.id) {
                    bail!("{address} is allocated to {other} and to {}", member.container.id);
                }
            }
        }
        Ok(())
    }
}

/// Waits until no plugin runs any more: the IPAM plugin of a killed one continues to its end.
fn settle() -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut running = vec![];
        for entry in fs::read_dir("/proc")?.flatten() {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // A zombie that has not been reaped yet has no command line.
            let runs = fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty());
            if runs && matches!(name.trim(), "bridge" | "host-local" | "moor-plugins") {
                running.push(name.trim().to_owned());
            }
        }
        if running.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "still running: {running:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
