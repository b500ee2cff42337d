//! Worlds: what else there may be on a host. `conformance run --world NAME` runs every case inside of one.
//!
//! What cannot hold there is listed with its reason in `testdata/worlds/NAME.txt`.

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
    /// A local user locks what he can open, the umask is 0, and containers send what they like.
    Hostile,
    /// An administrator has addresses, bridges, rules and sysctls of his own, and the host its route from a router.
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

    /// What cannot hold in it: names of cases and reasons, as a baseline has them.
    pub fn exceptions(self) -> &'static str {
        match self {
            Self::Busy => include_str!("../../../../testdata/worlds/busy.txt"),
            Self::Hostile => include_str!("../../../../testdata/worlds/hostile.txt"),
            Self::Odd => include_str!("../../../../testdata/worlds/odd.txt"),
        }
    }

    /// Makes the room such a world, for as long as what it gives back is there.
    pub fn enter(self, room: &Room) -> Result<Inhabited> {
        let made = match self {
            Self::Busy => busy::enter(room).map(Inhabited::Busy),
            Self::Hostile => hostile::enter(room).map(Inhabited::Hostile),
            Self::Odd => odd::enter(room).map(Inhabited::Odd),
        };
        made.with_context(|| format!("make the world {}", self.name()))
    }
}

/// A room that is a world now.
pub enum Inhabited {
    /// The load lasts as long as this.
    Busy(busy::Load),
    /// The hostile ones are there as long as this.
    Hostile(hostile::Hostiles),
    /// What the administrator had.
    Odd(odd::Administrator),
}

impl Inhabited {
    /// Nothing that was somebody else's may have changed.
    pub fn ensure_untouched(&self) -> Result<()> {
        match self {
            Self::Busy(_) | Self::Hostile(_) => Ok(()),
            Self::Odd(administrator) => administrator.ensure_untouched(),
        }
    }
}
