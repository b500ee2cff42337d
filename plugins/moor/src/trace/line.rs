//! A line of the log: one call.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most that is kept of each stream, in bytes.
pub const KEPT_MAX: usize = 256 * 1024;
/// A larger log is put aside, in bytes.
const LOG_MAX: u64 = 64 * 1024 * 1024;

/// A call.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Line {
    /// The version of the form.
    pub v: u8,
    /// When it began, in UTC.
    pub at: String,
    /// The plugin's name.
    pub plugin: String,
    /// The protocol's variables, where they are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// See `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// See `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// See `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// See `command`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// `CNI_PATH`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Who called.
    pub caller: Caller,
    /// The plugin's process.
    pub pid: u32,
    /// Standard input: JSON where it is, else text.
    pub stdin: Value,
    /// Standard output, likewise.
    pub stdout: Value,
    /// Standard error.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// The status, unless a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
}

/// Who called a plugin.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Caller {
    /// The process.
    pub pid: i32,
    /// The name of its program.
    pub comm: String,
}

/// A stream in a line: JSON where it is, else text, cut at [`KEPT_MAX`].
pub fn shown(bytes: &[u8]) -> Value {
    let kept = bytes.get(..KEPT_MAX).unwrap_or(bytes);
    serde_json::from_slice(kept).unwrap_or_else(|_| Value::from(text(kept)))
}

/// A stream as text.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes.get(..KEPT_MAX).unwrap_or(bytes))
}

impl Line {
    /// Appends it by one write.
    pub fn append(&self, log: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(b'\n');
        if let Some(dir) = log.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if fs::symlink_metadata(log).is_ok_and(|about| about.len() > LOG_MAX) {
            // Of two processes that do so at once the second may find a new log: it is put aside, too.
            let mut aside = log.as_os_str().to_owned();
            aside.push(".1");
            fs::rename(log, aside)?;
        }
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mut file =
            OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags.bits()).open(log)?;
        file.write_all(&bytes)
    }
}

/// A time in UTC, with milliseconds, by RFC 3339.
pub fn utc(time: SystemTime) -> String {
    let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let [hour, minute, second] = [seconds / 3600, seconds / 60 % 60, seconds % 60];
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The date of a day since 1970. Years begin in March here, so that a leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    // Days from the first of March of the year 0.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc() {
        let at = |seconds: u64| utc(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7));
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_796_000_523), "2026-11-30T01:02:03.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_streams_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log/trace.jsonl");
        let line = Line { v: 1, plugin: "bridge".into(), stdin: shown(b"{\"a\":1}"), ..Line::default() };
        line.append(&log).unwrap();
        line.append(&log).unwrap();
        let text = fs::read_to_string(&log).unwrap();
        let read: Line = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!((read.plugin.as_str(), &read.stdin["a"]), ("bridge", &Value::from(1)));
        assert_eq!(shown(&vec![b'x'; KEPT_MAX + 5]).as_str().unwrap().len(), KEPT_MAX);
        assert_eq!(shown(b"not json"), "not json");
    }
}
