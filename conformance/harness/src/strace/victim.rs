//! A SIGKILL or an error at every step of one verb, in one room, for a case with its own idea of
//! leftovers.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::point::{Extent, Point, points, strace};
use crate::config::with;
use crate::namespace::Container;
use crate::room::Room;
use crate::room::call::Answer;

/// How long a plugin is delayed, in microseconds: enough for another one's whole run.
const HOLD_UP: u32 = 100_000;

/// The target of faults.
pub struct Victim<'r> {
    /// The room.
    pub room: &'r Room,
    /// The plugin.
    pub plugin: &'r str,
    /// Its verb: ADD or DEL.
    pub verb: &'r str,
    /// For this container.
    pub container: &'r Container,
    /// With this configuration.
    pub config: &'r Value,
}

impl Victim<'_> {
    /// Kills the plugin at the start of each system call that changes something, and sends DEL:
    /// then `nothing_left` must hold. Returns the number of steps at which it was hit.
    pub fn killed_at_each(&self, nothing_left: impl Fn() -> Result<()>) -> Result<usize> {
        self.killed_and_mended(|| Ok(()), nothing_left)
    }

    /// As [`Victim::killed_at_each`], with a mending step before DEL that must succeed.
    pub fn killed_and_mended(
        &self,
        mend: impl Fn() -> Result<()>,
        nothing_left: impl Fn() -> Result<()>,
    ) -> Result<usize> {
        let mut hit = 0;
        for step in self.steps(&nothing_left)? {
            let at = format!("{} killed at {} {}", self.verb, step.syscall, step.nth);
            let (answer, reached) = self.hit("signal=KILL", &step)?;
            // The step may be a child process's, or one that not every run has.
            ensure!(!(answer.succeeded() && reached), "{at}, but it succeeded");
            hit += usize::from(reached);
            mend().with_context(|| format!("after {at}"))?;
            self.call("DEL")?.silent().with_context(|| format!("DEL after {at}"))?;
            nothing_left().with_context(|| format!("after {at}, and DEL"))?;
        }
        Ok(hit)
    }

    /// Makes each of those calls fail. A failed ADD must leave nothing, and a successful one must
    /// be complete; a successful DEL must leave nothing, and a failed one can be repeated.
    pub fn failed_at_each(&self, nothing_left: impl Fn() -> Result<()>) -> Result<usize> {
        let mut hit = 0;
        for step in self.steps(&nothing_left)? {
            let at = format!("{} failed at {} {}", self.verb, step.syscall, step.nth);
            let (answer, reached) = self.hit(&format!("error={}", step.errno()), &step)?;
            hit += usize::from(reached);
            match (self.verb, answer.succeeded()) {
                ("ADD", true) => {
                    let config = with(self.config, json!({"prevResult": answer.result()?}));
                    let call = self.room.attach(self.plugin, "CHECK", self.container).config(&config);
                    call.run()?.silent().with_context(|| format!("CHECK after {at}, which was tolerated"))?;
                }
                ("ADD", false) | (_, true) => nothing_left().with_context(|| format!("after {at}"))?,
                (_, false) => {}
            }
            self.call("DEL")?.silent().with_context(|| format!("DEL after {at}"))?;
            nothing_left().with_context(|| format!("after {at}, and DEL"))?;
        }
        Ok(hit)
    }

    /// Delays the plugin at the start of each of its netlink messages, while `meanwhile` runs.
    /// `before` prepares each run, `after` gets its answer and the result of `meanwhile`.
    pub fn held_up_at_each<B, M: Send>(
        &self,
        before: impl Fn() -> Result<B>,
        meanwhile: impl Fn() -> Result<M> + Sync,
        after: impl Fn(Answer, M) -> Result<()>,
    ) -> Result<()> {
        before()?;
        let one_by_one = self.under_strace(None)?;
        let steps = points(&self.log()?);
        after(one_by_one, meanwhile()?).context("one after the other")?;
        let messages: Vec<_> = steps.iter().filter(|step| step.is_message()).collect();
        ensure!(messages.len() > 5, "only {} messages of {}", messages.len(), self.verb);
        for step in messages {
            before()?;
            let delay = format!("inject={}:delay_enter={HOLD_UP}:when={}", step.syscall, step.nth);
            let (answer, came) = std::thread::scope(|scope| {
                let other = scope.spawn(&meanwhile);
                let answer = self.under_strace(Some(delay));
                (answer, other.join().unwrap_or_else(|_| bail!("the other call panicked")))
            });
            after(answer?, came?)
                .with_context(|| format!("{} held up at {} {}", self.verb, step.syscall, step.nth))?;
        }
        Ok(())
    }

    fn call(&self, verb: &str) -> Result<Answer> {
        self.room.attach(self.plugin, verb, self.container).config(self.config).run()
    }

    fn traced(&self, inject: Option<String>) -> Result<Answer> {
        if self.verb != "ADD" {
            self.call("ADD")?.result().context("ADD before")?;
        }
        self.under_strace(inject)
    }

    fn under_strace(&self, inject: Option<String>) -> Result<Answer> {
        let words = strace(&self.room.scratch("strace"), Extent::All, inject);
        self.room.attach(self.plugin, self.verb, self.container).config(self.config).under(&words).run()
    }

    /// The steps of a run without faults.
    fn steps(&self, nothing_left: impl Fn() -> Result<()>) -> Result<Vec<Point>> {
        let listed = self.traced(None)?;
        ensure!(listed.succeeded(), "{} under strace: {}", self.verb, listed.summary());
        let steps = points(&self.log()?);
        self.call("DEL")?.silent()?;
        nothing_left().with_context(|| format!("after DEL, {} not hit", self.verb))?;
        Ok(steps)
    }

    /// The answer of a run with a fault at that step, and whether it reached the step.
    fn hit(&self, how: &str, step: &Point) -> Result<(Answer, bool)> {
        let answer = self.traced(Some(format!("inject={}:{how}:when={}", step.syscall, step.nth)))?;
        let log = self.log()?;
        Ok((answer, log.contains("(INJECTED)") || log.contains("killed by SIGKILL")))
    }

    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.room.scratch("strace"))?)
    }
}
