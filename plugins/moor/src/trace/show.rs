//! `trace show`: the calls of a log, by container.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Note, print};
use crate::space::refused;

use super::line::Line;
use super::print::tree;

pub const KIND: &str = "calls";
/// The most that is read of a log, in bytes: it is put aside at half of it.
const LOG_MAX: u64 = 128 * 1024 * 1024;

/// Prints the calls.
pub fn run(context: &Context, file: &Path, filters: &[String]) -> Result<Exit, Failure> {
    let (mut calls, notes) = read(file)?;
    calls.retain(|call| filters.is_empty() || filters.iter().any(|filter| is_meant(call, filter)));
    // A call is written when it ends, after those that it made.
    calls.sort_by(|one, other| one.at.cmp(&other.at));
    if context.json {
        output::document(KIND, &calls, &notes)?;
    } else {
        print(&output::escaped(&tree(&calls)))?;
        output::notes(&notes);
    }
    Ok(if notes.is_empty() { Exit::Done } else { Exit::Incomplete })
}

fn read(path: &Path) -> Result<(Vec<Line>, Vec<Note>), Failure> {
    let failed = |error| refused(&format!("read {}", path.display()), error);
    let file =
        File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(Failure::refused(format!("{} is no regular file", path.display())));
    }
    let (mut calls, mut broken) = (Vec::new(), 0);
    for line in BufReader::new(file.take(LOG_MAX)).split(b'\n') {
        match serde_json::from_slice(&line.map_err(failed)?) {
            Ok(call) => calls.push(call),
            Err(_) => broken += 1,
        }
    }
    let notes = match broken {
        0 => Vec::new(),
        count => vec![Note::about("lines", path, format!("{count} lines are no calls"))],
    };
    Ok((calls, notes))
}

/// Whether it is of this container or plugin, or `failed`.
fn is_meant(call: &Line, filter: &str) -> bool {
    let of_container =
        call.container_id.as_deref().is_some_and(|id| !id.is_empty() && id.starts_with(filter));
    of_container || call.plugin == filter || (filter == "failed" && has_failed(call))
}

/// Whether it ended otherwise than by status 0.
pub fn has_failed(call: &Line) -> bool {
    call.exit != Some(0)
}

/// What a plugin said that went wrong.
pub fn fault(call: &Line) -> Option<String> {
    if !has_failed(call) {
        return None;
    }
    let message = call.stdout.get("msg").and_then(Value::as_str);
    let details = call.stdout.get("details").and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = match (message, details) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) => message.to_owned(),
        (None, _) => call.stderr.lines().next().unwrap_or("no error was printed").to_owned(),
    };
    Some(match (call.exit, call.signal) {
        (_, Some(signal)) => format!("signal {signal}: {text}"),
        (Some(exit), _) => format!("exit {exit}: {text}"),
        _ => text,
    })
}
