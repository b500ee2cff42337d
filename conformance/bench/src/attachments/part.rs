//! The parts that compare single operations, each in a room of its own.

use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use harness::room::Room;

use super::compared::Compared;
use super::{chain, cluster, engine, flow, herd, networks, rates, stale, start, tool, wait};

/// A part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// VERSION of every executable, beside the smallest one.
    Start,
    /// The whole chain, with its instructions.
    Chain,
    /// GC of stale attachments.
    Gc,
    /// Many at once.
    Herd,
    /// From the runtime's call to the first answers.
    Wait,
    /// What a network adds to a container engine's commands.
    Engine,
    /// The bytes that pass a shaper.
    Rates,
    /// A firewall among many networks.
    Networks,
    /// What a person waits for the tool.
    Tool,
    /// One network over three hosts.
    Cluster,
    /// One network over fifty hosts.
    Crowd,
    /// Connections with `fastPath`, in a virtual machine.
    Flow,
}

impl Part {
    /// Every part.
    pub const ALL: [Part; 12] = [
        Part::Start,
        Part::Chain,
        Part::Gc,
        Part::Herd,
        Part::Wait,
        Part::Engine,
        Part::Rates,
        Part::Networks,
        Part::Tool,
        Part::Cluster,
        Part::Crowd,
        Part::Flow,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Part::Start => "start",
            Part::Chain => "chain",
            Part::Gc => "gc",
            Part::Herd => "herd",
            Part::Wait => "wait",
            Part::Engine => "engine",
            Part::Rates => "rates",
            Part::Networks => "networks",
            Part::Tool => "tool",
            Part::Cluster => "cluster",
            Part::Crowd => "crowd",
            Part::Flow => "flow",
        }
    }

    /// Its job in a room: the name, and the directory of the earlier build if there is one.
    pub fn job(self, before: Option<&Path>) -> String {
        format!("bench-part:{}:{}", self.name(), before.unwrap_or(Path::new("")).display())
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = || Self::ALL.map(Part::name).join(", ");
        let found = Self::ALL.into_iter().find(|part| part.name() == text);
        found.ok_or_else(|| anyhow!("no part is called {text:?}: there are {}", names()))
    }
}

/// The job of a part's room.
pub fn job(room: &Room, job: &str) -> Result<Vec<Compared>> {
    let (part, before) = job.split_once(':').context("which part")?;
    let before = Some(Path::new(before)).filter(|dir| !dir.as_os_str().is_empty());
    match part.parse()? {
        Part::Start => start::job(room, before),
        Part::Chain => chain::job(room, before),
        Part::Gc => stale::job(room, before),
        Part::Herd => herd::job(room, before),
        Part::Wait => wait::job(room, before),
        Part::Engine => engine::job(room),
        Part::Rates => rates::job(room),
        Part::Networks => networks::job(room),
        Part::Tool => tool::job(room),
        Part::Cluster => cluster::job(room),
        Part::Crowd => cluster::crowd::job(room),
        Part::Flow => flow::job(room),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found_by_its_name() {
        for part in Part::ALL {
            assert_eq!(part.name().parse::<Part>().unwrap(), part);
        }
        assert!("ends".parse::<Part>().unwrap_err().to_string().contains("start, chain, gc"));
    }
}
