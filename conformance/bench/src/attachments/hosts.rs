//! A host for each suite: a network namespace, in which no other suite's rules and links are. An
//! earlier build may lay out its rules differently, and the kernel's work grows with all of them.

use std::path::Path;

use anyhow::Result;
use harness::ip;
use harness::room::Room;

use super::contender::Contender;

/// What is called on a host.
const EXECUTABLES: [&str; 4] = ["bridge", "host-local", "portmap", "dns"];

/// A suite on its host.
pub struct Host {
    /// The suite.
    pub contender: Contender,
    /// The name of the host's namespace.
    pub name: String,
}

impl Host {
    /// Creates the host of a suite.
    pub fn new(room: &Room, contender: Contender) -> Result<Self> {
        let host = Self { name: format!("host{}", contender.slot), contender };
        room.container(&host.name)?;
        ip::run_in(&host.name, &["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// The hosts of ours, of the earlier build if there is one, and of the reference.
    pub fn all(room: &Room, before: Option<&Path>) -> Result<Vec<Self>> {
        let builds = [Some(Contender::ours(room)), before.map(Contender::before)].into_iter().flatten();
        let mut contenders =
            builds.map(|build| build.copied(room, &EXECUTABLES)).collect::<Result<Vec<_>>>()?;
        contenders.push(Contender::reference(room));
        contenders.into_iter().map(|contender| Self::new(room, contender)).collect()
    }
}
