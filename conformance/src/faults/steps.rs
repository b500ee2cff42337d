//! A SIGKILL at every step of one verb, in one room, for a case that has its own idea of what may be left.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::point::{points, strace};
use crate::room::Room;
use crate::room::call::Answer;
use crate::room::netns::Container;

/// Kills the plugin as it begins each of its system calls that change something, and sends DEL: then `nothing_left`
/// must hold. Returns at how many steps it was hit.
pub fn killed_at_each(
    room: &Room,
    plugin: &str,
    verb: &str,
    container: &Container,
    config: &Value,
    nothing_left: impl Fn() -> Result<()>,
) -> Result<usize> {
    let log = room.scratch("strace");
    let call = |verb: &str| room.attach(plugin, verb, container).config(config);
    let traced = |inject: Option<String>| -> Result<Answer> {
        if verb != "ADD" {
            call("ADD").run()?.result().context("ADD before")?;
        }
        call(verb).under(&strace(&log, inject)).run()
    };
    let listed = traced(None)?;
    ensure!(listed.succeeded(), "{verb} under strace: {}", listed.summary());
    let steps = points(&fs::read_to_string(&log)?);
    call("DEL").run()?.silent()?;
    nothing_left().with_context(|| format!("after DEL, {verb} not hit"))?;
    let mut hit = 0;
    for step in &steps {
        let at = format!("{verb} killed at {} {}", step.syscall, step.nth);
        let answer = traced(Some(format!("inject={}:signal=KILL:when={}", step.syscall, step.nth)))?;
        // A step of a process that it started, or one that not every run has.
        if answer.succeeded() {
            ensure!(!fs::read_to_string(&log)?.contains("killed by SIGKILL"), "{at}, and yet it succeeded");
        } else {
            hit += 1;
        }
        call("DEL").run()?.silent().with_context(|| format!("DEL after {at}"))?;
        nothing_left().with_context(|| format!("after {at}, and DEL"))?;
    }
    Ok(hit)
}
