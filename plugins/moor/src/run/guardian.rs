//! The guardian: a process that detaches what `run` has attached when `run` is killed.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeWriter, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use runtime::Runtime;
use serde::{Deserialize, Serialize};
use sys::NetNs;

use crate::failure::{Exit, Failure};
use crate::helper::{Helper, Role, Start, inherit, parse_descriptor, report_ready};
use crate::space::refused;

use super::attach::{self, Join, Written};

/// How long a plugin that `run` has started may go on when `run` is dead.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(10);
/// What `run` writes when nothing is left to detach.
const DISMISSED: &str = "done";

/// What the guardian has to know.
#[derive(Deserialize, Serialize)]
struct Orders {
    cni_path: Vec<PathBuf>,
    cache_dir: PathBuf,
    netns: String,
    joins: Vec<Written>,
}

/// The guardian, from the side of `run`.
pub struct Guardian {
    helper: Helper,
    /// Plugins inherit it: the other end is closed when this process and they have ended.
    _alive: PipeWriter,
}

impl Guardian {
    /// Starts the guardian, before the first ADD.
    pub fn start(runtime: &Runtime, joins: &[Join], netns: &str) -> Result<Self, Failure> {
        let failed = |error: io::Error| refused("start the guardian", error);
        let (reader, alive) = io::pipe().map_err(failed)?;
        let reader = OwnedFd::from(reader);
        let orders = Orders {
            cni_path: runtime.cni_path.clone(),
            cache_dir: runtime.cache_dir.clone(),
            netns: netns.to_owned(),
            joins: joins.iter().map(Written::from).collect(),
        };
        let orders = serde_json::to_string(&orders).map_err(|error| failed(error.into()))?;
        let arguments = [OsString::from(reader.as_raw_fd().to_string())];
        let start = Start {
            role: Role::Guardian,
            arguments: &arguments,
            inherits: Some(&reader),
            has_terminal: false,
        };
        let mut helper = start.run()?;
        helper.socket.write_all(format!("{orders}\n").as_bytes()).map_err(failed)?;
        helper.await_ready()?;
        inherit(&alive, true).map_err(failed)?;
        Ok(Self { helper, _alive: alive })
    }

    /// Ends it: everything is detached.
    pub fn dismiss(mut self) {
        // When it is gone, it cannot do harm any more either.
        let _ = self.helper.socket.write_all(format!("{DISMISSED}\n").as_bytes());
        let _ = self.helper.process.wait();
    }
}

/// The guardian's own side.
pub fn run(socket: &mut UnixStream, rest: &[OsString]) -> Result<Exit, Failure> {
    let failed = |error: io::Error| refused("guardian", error);
    let alive = rest.first().map(|number| parse_descriptor(number)).transpose();
    let alive = alive.map_err(|error| Failure::refused(error.to_string()))?;
    sys::process::close_descriptors_on_exec().map_err(|error| Failure::refused(error.to_string()))?;
    // A signal of the terminal ends `run` and its plugins; it must not end this process.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"moor-guardian");
    std::env::set_current_dir("/").map_err(failed)?;
    report_ready(socket)?;
    let mut input = BufReader::new(socket.try_clone().map_err(failed)?);
    let mut line = String::new();
    input.read_line(&mut line).map_err(failed)?;
    let orders: Orders = serde_json::from_str(&line).map_err(|error| failed(error.into()))?;
    let netns = NetNs::open(&orders.netns).map_err(|error| Failure::refused(error.to_string()))?;
    let joins = orders.joins.into_iter().map(Written::read).collect::<Result<Vec<_>, _>>()?;
    report_ready(socket)?;
    line.clear();
    // A killed parent leaves nothing to read, and so does a connection that breaks.
    let _ = input.read_line(&mut line);
    if line.trim_end() != DISMISSED {
        if let Some(alive) = alive {
            await_plugins(&alive);
        }
        attach::delete(&Runtime::new(orders.cni_path, orders.cache_dir), &joins, &netns);
    }
    Ok(Exit::Done)
}

/// An ADD that goes on must not overlap with DEL.
fn await_plugins(alive: &OwnedFd) {
    // A plugin that hangs is not awaited any longer: what it leaves, `gc` finds.
    let _ = sys::wait::readable(&alive.as_fd(), Instant::now() + PLUGIN_TIMEOUT);
}
