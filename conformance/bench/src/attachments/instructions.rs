//! Instructions in user mode, counted by valgrind: neither load nor other processors change them.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::room::SCRATCH;

use super::contender::Attachment;

/// The prefix of valgrind's files; it adds a process id.
const FILE: &str = "callgrind.";

/// Whether they can be counted here.
pub fn probe() -> Result<()> {
    let done = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
    let done = done.context("there is no valgrind")?;
    ensure!(done.success(), "valgrind: {done}");
    Ok(())
}

/// Instructions of all processes of a verb.
pub fn of(attachment: &mut Attachment<'_>, verb: &str) -> Result<u64> {
    let pattern = PathBuf::from(SCRATCH).join(format!("{FILE}%p"));
    let mut file = OsString::from("--callgrind-out-file=");
    file.push(&pattern);
    let mut wrapper: Vec<OsString> =
        ["valgrind", "--tool=callgrind", "--trace-children=yes", "--vgdb=no", "--quiet"]
            .into_iter()
            .map(Into::into)
            .collect();
    wrapper.push(file);
    let mut total = 0;
    attachment.each(verb, |shot| {
        // In a room only its own directories can be written.
        let status = shot.command(&wrapper)?.env("TMPDIR", SCRATCH).status().context("start valgrind")?;
        let answer = shot.answer(status)?;
        total += collect()?;
        Ok(answer)
    })?;
    Ok(total)
}

/// Adds up valgrind's files, one of each process, and removes them.
fn collect() -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(SCRATCH)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(FILE) {
            let text = fs::read_to_string(entry.path()).context("read valgrind's file")?;
            total += totals(&text).with_context(|| format!("{} has no total", entry.path().display()))?;
            fs::remove_file(entry.path())?;
        }
    }
    ensure!(total > 0, "valgrind counted nothing");
    Ok(total)
}

/// The sum of a file: the line `totals: N` (the callgrind format), of every thread together.
fn totals(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_a_file_is_its_line_totals() {
        assert_eq!(totals("events: Ir\nsummary: 12\n\nfn=(1) main\n0 5\ntotals: 1204\n"), Some(1204));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
