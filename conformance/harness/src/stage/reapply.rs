//! `portmap reapply` and `bridge reapply`, the records they read, and the rules they make.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::snapshot;

/// The records of attachments.
pub const RECORDS: &str = "/run/moor/intent";

/// The command, for a plugin.
pub fn call<'r>(room: &'r Room, plugin: &str) -> Call<'r> {
    Call::new(room, room.suite.join(plugin)).argv(&["reapply"])
}

/// Runs it; returns its standard error.
pub fn reapply(room: &Room, plugin: &str) -> Result<String> {
    let answer = call(room, plugin).run()?;
    answer.silent().context("reapply")?;
    Ok(answer.stderr)
}

/// Requires that CHECK found this missing, made it again, and passed.
pub fn mended(answer: &Answer, what: &str) -> Result<()> {
    answer.silent().context("CHECK of what is on record")?;
    let is_reported = answer.stderr.contains(what) && answer.stderr.contains("made again");
    ensure!(is_reported, "CHECK does not report that it made {what} again: {:?}", answer.stderr);
    Ok(())
}

/// Removes the records: what is gone then stays gone.
pub fn forget_records() -> Result<()> {
    for name in records()? {
        fs::remove_file(format!("{RECORDS}/{name}"))?;
    }
    Ok(())
}

/// The rules as nft lists them, in an order that does not depend on the order of creation.
pub fn rules() -> Result<Vec<String>> {
    let mut rules = snapshot::rules()?;
    // A set's elements are on lines of their own, with commas between them.
    rules
        .iter_mut()
        .for_each(|line| *line = line.trim_end_matches([',', ' ', '}']).replace("elements = { ", ""));
    rules.sort();
    Ok(rules)
}

/// The names of all records, without locks.
pub fn records() -> Result<Vec<String>> {
    let entries = fs::read_dir(RECORDS).context("list the records")?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    Ok(names.collect::<Result<Vec<_>>>()?.into_iter().filter(|name| !name.starts_with('.')).collect())
}
