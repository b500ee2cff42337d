//! Runs jobs, each in a room of its own, several in parallel, each with a time limit.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::case::{Case, Outcome, Verdict, first_line};
use crate::job::{PLAIN_ROOM, ROOM};
use crate::need::Need;
use crate::world::World;

/// The working environment of a run.
#[derive(Clone)]
pub struct Grounds {
    /// The harness itself.
    pub exe: PathBuf,
    /// The plugins under test.
    pub suite: PathBuf,
    /// The reference's plugins.
    pub reference: PathBuf,
    /// The conflists.
    pub net_d: PathBuf,
    /// The number of parallel rooms.
    pub jobs: usize,
    /// The time limit of a room.
    pub timeout: Duration,
    /// The world to make of rooms of cases; `None` keeps them empty.
    pub world: Option<World>,
}

/// The result of a job's process.
pub struct Finished {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error, and its exit status when that was not 0.
    pub trouble: Option<String>,
}

impl Grounds {
    /// The command that runs a job in a room of its own.
    pub fn command(&self, job: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.arg("__room").arg("--cni-path").arg(&self.suite).arg("--reference").arg(&self.reference);
        command.arg("--net-d").arg(&self.net_d);
        if let Some(world) = self.world {
            command.args(["--world", world.name()]);
        }
        command.arg("--").arg(job);
        command
    }

    /// Runs a job to its end, or kills it and everything it started. The job has its own process
    /// group and pid namespace, so nothing else can be hit.
    pub fn run(&self, job: &str) -> Result<Finished> {
        let mut child = self
            .command(job)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.exe.display()))?;
        let group = Pid::from_raw(child.id().try_into()?);
        let (sender, receiver) = channel();
        // The pipes close when the last process of the room ends, so end of file is the end of the
        // room.
        for (is_stderr, pipe) in [
            (false, child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
            (true, child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>)),
        ] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut bytes = vec![];
                let read = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
                drop(read);
                let _ = sender.send((is_stderr, String::from_utf8_lossy(&bytes).into_owned()));
            });
        }
        drop(sender);
        let deadline = Instant::now() + self.timeout;
        let (mut stdout, mut stderr, mut late) = (String::new(), String::new(), false);
        loop {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, text)) => stderr = text,
                Ok((false, text)) => stdout = text,
                Err(RecvTimeoutError::Timeout) if !late => {
                    late = true;
                    killpg(group, Signal::SIGKILL).ok();
                    break;
                }
                Err(_) => break,
            }
        }
        let status = child.wait().context("wait for the room")?;
        let trouble = if late {
            Some(format!("not done within {} s, so it was ended\n{stderr}", self.timeout.as_secs()))
        } else if status.success() {
            None
        } else {
            Some(format!("{stderr}({status})"))
        };
        Ok(Finished { stdout, trouble })
    }

    /// Runs a job that prints for people, with our output. True when it succeeded.
    pub fn show(&self, job: &str) -> Result<bool> {
        let mut child =
            self.command(job).process_group(0).stdin(Stdio::null()).spawn().context("start the room")?;
        let group = Pid::from_raw(child.id().try_into()?);
        let (sender, receiver) = channel();
        std::thread::spawn(move || drop(sender.send(child.wait())));
        match receiver.recv_timeout(self.timeout) {
            Ok(status) => Ok(status.context("wait for the room")?.success()),
            Err(_) => {
                killpg(group, Signal::SIGKILL).ok();
                bail!("not done within {} s, so it was ended", self.timeout.as_secs())
            }
        }
    }

    /// Runs `work` on all items, `jobs` at a time; results are in the order of the items.
    pub fn parallel<T: Sync, R: Send>(&self, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::with_capacity(items.len()));
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(items.len()) {
                scope.spawn(|| {
                    while let Some((index, item)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
                    {
                        let answer = work(item);
                        done.lock().unwrap_or_else(PoisonError::into_inner).push((index, answer));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(index, _)| *index);
        done.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Requires that cases can have rooms here: where they cannot, a failure of each would be the
    /// machine's, and not the suite's.
    pub fn ensure_rooms(&self) -> Result<()> {
        for room in [ROOM, PLAIN_ROOM] {
            if let Some(why) = self.run(room)?.trouble {
                bail!("not every case can have a room here: {}", own_reason(&why));
            }
        }
        Ok(())
    }

    /// The requested needs that this machine does not meet.
    pub fn lacking(&self, wanted: &[Need]) -> Vec<(Need, String)> {
        let answers = self.parallel(wanted, |need| match self.run(&format!("need:{}", need.name())) {
            Ok(Finished { trouble: None, .. }) => None,
            Ok(Finished { trouble: Some(why), .. }) => Some((*need, own_reason(&why))),
            Err(error) => Some((*need, format!("{error:#}"))),
        });
        answers.into_iter().flatten().collect()
    }
}

/// Runs the cases, those that must run alone after the others. Outcomes are in the order of the
/// cases; `each` is called as they come.
pub fn run_cases(grounds: &Grounds, cases: &[Case], each: impl Fn(&Outcome) + Sync) -> Vec<Outcome> {
    let wanted: Vec<Need> =
        Need::ALL.into_iter().filter(|need| cases.iter().any(|c| c.needs.contains(need))).collect();
    let lacking = grounds.lacking(&wanted);
    let run = |case: &&Case| {
        let began = Instant::now();
        let verdict = match lacking.iter().find(|(need, _)| case.needs.contains(need)) {
            Some((need, why)) => Verdict::NotRun(format!("{}: {why}", need.name())),
            None => judge(grounds, case),
        };
        let took = began.elapsed();
        let outcome =
            Outcome { name: case.name.to_owned(), clauses: case.clauses, verdict, took, in_vm: false };
        each(&outcome);
        outcome
    };
    let (alone, beside): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.alone);
    let mut outcomes = grounds.parallel(&beside, run);
    outcomes.extend(alone.iter().map(run));
    outcomes.sort_by_key(|outcome| cases.iter().position(|case| case.name == outcome.name));
    outcomes
}

fn judge(grounds: &Grounds, case: &Case) -> Verdict {
    match grounds.run(&format!("case:{}", case.name)) {
        Ok(Finished { trouble: None, .. }) => Verdict::Passed,
        Ok(Finished { trouble: Some(report), .. }) => Verdict::Failed(report),
        Err(error) => Verdict::Failed(format!("{error:#}")),
    }
}

/// The first line of what the harness has printed about itself.
fn own_reason(text: &str) -> String {
    let line = first_line(text);
    line.strip_prefix("conformance: ").unwrap_or(line).to_owned()
}
