//! Worlds: kinds of hosts that are not empty. `conformance run --world NAME` runs every case inside
//! one.
//!
//! Cases that cannot pass there are listed with reasons in `testdata/worlds/NAME.txt`.

mod busy;
mod hostile;
mod odd;
pub mod router;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::room::Room;

/// A kind of host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum World {
    /// Network namespaces come and go as fast as they can, and the processors are loaded.
    Busy,
    /// A local user locks every file that he can open, the umask is 0, and containers send hostile
    /// frames.
    Hostile,
    /// An administrator has addresses, bridges, rules and sysctls, and the host's route comes from
    /// a router.
    Odd,
}

impl World {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Hostile => "hostile",
            Self::Odd => "odd",
        }
    }

    /// The cases that cannot pass in it, with reasons, in the format of a baseline.
    pub fn exceptions(self) -> &'static str {
        match self {
            Self::Busy => include_str!("../../../../testdata/worlds/busy.txt"),
            Self::Hostile => include_str!("../../../../testdata/worlds/hostile.txt"),
            Self::Odd => include_str!("../../../../testdata/worlds/odd.txt"),
        }
    }

    /// Turns the room into such a world, for as long as the returned value lives.
    pub fn enter(self, room: &Room) -> Result<Inhabited> {
        let made = match self {
            Self::Busy => busy::enter(room).map(Inhabited::Busy),
            Self::Hostile => hostile::enter(room).map(Inhabited::Hostile),
            Self::Odd => odd::enter(room).map(Inhabited::Odd),
        };
        made.with_context(|| format!("make the world {}", self.name()))
    }
}

/// Whether a link of the host is an administrator's, by its name, in a world that has one.
pub fn is_administrators(link: &str) -> bool {
    link.contains("admin")
}

/// A room inside a world.
pub enum Inhabited {
    /// The load, which lasts as long as this.
    Busy(busy::Load),
    /// The attackers, who stay as long as this.
    Hostile(hostile::Hostiles),
    /// The administrator's objects.
    Odd(odd::Administrator),
}

impl Inhabited {
    /// Requires that nothing of others has changed.
    pub fn ensure_untouched(&self) -> Result<()> {
        match self {
            Self::Busy(_) | Self::Hostile(_) => Ok(()),
            Self::Odd(administrator) => administrator.ensure_untouched(),
        }
    }
}
