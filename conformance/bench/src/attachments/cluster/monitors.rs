//! When entries of an address appear in the tables of a host.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::cluster::host::Host;
use harness::namespace::inside;
use harness::patience::on_this_machine;

use super::millis;

/// The longest wait for an entry.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
pub const LOOK: Duration = Duration::from_micros(500);

/// Lines of a monitor, each with its time.
type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// `bridge monitor fdb` and `ip monitor neigh` of a host.
pub struct Monitors {
    name: String,
    children: Vec<Child>,
    lines: [Lines; 2],
}

impl Monitors {
    /// Starts them.
    pub fn new(host: &Host<'_>) -> Result<Self> {
        let mut monitors =
            Self { name: host.name.clone(), children: vec![], lines: [Lines::default(), Lines::default()] };
        for ((program, table), lines) in [("bridge", "fdb"), ("ip", "neigh")].into_iter().zip(&monitors.lines)
        {
            let mut command = Command::new(program);
            command.args(["monitor", table]).stdin(Stdio::null()).stdout(Stdio::piped());
            let start = || command.spawn().with_context(|| format!("start {program} monitor"));
            let mut child = inside(&host.name, start)?;
            let output = child.stdout.take().context("a monitor's output")?;
            let lines = lines.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
                    let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                    lines.push((Instant::now(), line));
                }
            });
            monitors.children.push(child);
        }
        Ok(monitors)
    }

    /// The milliseconds from an ADD's return until the host had both entries of its address: 0 if it
    /// had them earlier. `called` is when that ADD began.
    pub fn follow(&self, address: &str, called: Instant, returned: Instant) -> Result<f64> {
        let octets = address.split('.').map(str::parse::<u8>).collect::<std::result::Result<Vec<_>, _>>()?;
        let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        let marks = [format!("02:6d:{}", octets.join(":")), format!("{address} ")];
        let mut last: f64 = 0.0;
        for (lines, mark) in self.lines.iter().zip(marks) {
            let at = self.seen(lines, &mark, called)?;
            last = last.max(millis(at.saturating_duration_since(returned)));
        }
        Ok(last)
    }

    /// When a line with that mark came that is no deletion; all lines are then forgotten.
    fn seen(&self, lines: &Lines, mark: &str, from: Instant) -> Result<Instant> {
        loop {
            let mut held = lines.lock().unwrap_or_else(PoisonError::into_inner);
            let is_it = |(at, line): &&(Instant, String)| {
                *at >= from && !line.starts_with("Deleted") && line.contains(mark)
            };
            if let Some((at, _)) = held.iter().find(is_it) {
                let at = *at;
                held.clear();
                return Ok(at);
            }
            drop(held);
            ensure!(from.elapsed() < on_this_machine(PATIENCE), "{} has no entry of {mark}", self.name);
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}
