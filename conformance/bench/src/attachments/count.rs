//! Counts, which noise cannot change: system calls, child processes, peak memory, bytes. Never
//! counted while timing.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result, ensure};
use harness::namespace::Container;
use harness::room::Room;
use harness::strace::summary;
use serde::{Deserialize, Serialize};

use super::contender::{Attachment, Contender};
use super::scenario::{Scenario, VERBS, names};
use super::shot::Shot;
use super::{peak, responder};

/// The counts of one verb over one chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// System calls of all its processes.
    pub system_calls: u64,
    /// Processes that its plugins started (executed programs, not threads).
    pub child_processes: u64,
    /// Peak resident memory of its largest process, in KiB.
    pub peak_kib: u64,
    /// Bytes of the executables involved, each file once.
    pub executable_bytes: u64,
}

/// Counts every verb of a scenario, in the order of [`VERBS`]; CHECK only when it works.
pub fn count(
    room: &Room,
    contender: &Contender,
    scenario: Scenario,
    container: &Container,
    checks: bool,
) -> Result<Vec<(String, Counts)>> {
    let mut counts: Vec<(String, Counts)> = vec![];
    let mut attachment = contender.attachment(scenario, container, "eth0");
    let verbs = || VERBS.into_iter().filter(|verb| checks || *verb != "CHECK");
    for verb in verbs() {
        let mut count = Counts { executable_bytes: contender.bytes(scenario)?, ..Counts::default() };
        under_strace(room, &mut attachment, verb, &mut count)?;
        counts.push((verb.to_owned(), count));
    }
    let traced: Vec<OsString> = vec![std::env::current_exe()?.into(), "__traced".into()];
    for (verb, (_, count)) in verbs().zip(&mut counts) {
        attachment.each(verb, |shot| {
            let (succeeded, peak) = peak::of(shot.command(&traced)?)?;
            ensure!(succeeded, "{} {verb} fails when it is traced: {}", shot.program.display(), shot.said()?);
            count.peak_kib = count.peak_kib.max(peak);
            shot.printed()
        })?;
        if let Some(peak) = responder::peak_kib(&names(contender.slot))? {
            count.peak_kib = count.peak_kib.max(peak);
        }
    }
    Ok(counts)
}

fn under_strace(room: &Room, attachment: &mut Attachment<'_>, verb: &str, count: &mut Counts) -> Result<()> {
    let summary = room.scratch("strace.summary");
    let wrapper: Vec<OsString> = ["strace", "-f", "-c", "-qq", "-o"]
        .into_iter()
        .map(Into::into)
        .chain([summary.clone().into()])
        .collect();
    attachment.each(verb, |shot: &Shot| {
        let status = shot.command(&wrapper)?.status().context("start strace")?;
        let answer = shot.answer(status)?;
        let (calls, programs) =
            summary::totals(&fs::read_to_string(&summary).context("read strace's summary")?)?;
        count.system_calls += calls;
        // The first is the plugin itself.
        count.child_processes += programs.saturating_sub(1);
        Ok(answer)
    })
}
