//! The responder as a process, for who waits for it in vain.

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::record::RESPONDER_LOCK;

/// The name of a responder as a process (comm, proc(5)).
pub const NAME: &CStr = c"moor-dns";

/// A process, and what it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    /// As proc(5) has it: `T` for one that is stopped.
    state: char,
}

impl Process {
    /// The responder that listens at the control socket: as it wrote itself into its lock. No other process is taken
    /// for it, so one that has gone without a trace is none.
    pub fn responder(control: &Path) -> Option<Self> {
        let about = fs::read_to_string(control.with_file_name(RESPONDER_LOCK)).ok()?;
        let pid = about.split_whitespace().next()?.parse().ok()?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state …`
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1;
        (name.as_bytes() == NAME.to_bytes()).then_some(Self { pid, state: tail.chars().next()? })
    }

    /// Whether it is stopped, by a signal or a debugger: it does nothing until it is continued.
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
