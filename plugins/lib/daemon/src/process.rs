//! A daemon as a process, for error messages of plugins that get no response.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::Path;

/// A process and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    /// The state as in proc(5): `T` if stopped.
    state: char,
}

impl Process {
    /// The daemon that wrote its process id as the first word of its lock file. A process with
    /// another name (comm, proc(5)) is not taken for it.
    pub fn of_lock(lock: &Path, name: &CStr) -> Option<Self> {
        let about = fs::read_to_string(lock).ok()?;
        let pid = about.split_whitespace().next()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state …`
        let (head, tail) = stat.rsplit_once(") ")?;
        let actual = head.split_once('(')?.1;
        (actual.as_bytes() == name.to_bytes()).then_some(Self { pid, state: tail.chars().next()? })
    }

    /// Whether it is stopped by a signal or a debugger.
    pub fn is_stopped(self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            'T' | 't' => "stopped",
            'R' => "running",
            'S' => "sleeping",
            'D' => "in an uninterruptible sleep",
            'Z' | 'X' => "dead",
            _ => "in an unknown state",
        };
        write!(f, "process {}, {state}", self.pid)
    }
}
