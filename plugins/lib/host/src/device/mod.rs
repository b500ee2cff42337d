//! Devices of the host that containers have for a while, and how each comes back.
//!
//! A device must never be lost, whenever a process is killed, and whatever the container does to
//! it. So what the host has to know is in three places:
//!
//! - a record, written before the device moves: its owner, and its state on the host;
//! - the device's alias: its name on the host, as the reference writes it, so that the reference's
//!   DEL returns our devices, and ours the reference's;
//! - the device's index in the container, which is a hash of its owner
//!   ([`Owner::link_index`]): a container can rename its link and change its alias, but not its
//!   index, and the link keeps it when the kernel returns it from a dead namespace.
//!
//! The alias is the mark of an unfinished return: it gets its old text back last, and then the
//! record goes. So the next ADD, DEL, GC or STATUS finishes what a killed process began.

mod adopted;
mod found;
mod give_back;
mod record;
mod taken;
mod text;

use crate::{Owner, Store, Stored};

pub use adopted::{Hint, adopt_on_host};
pub use give_back::{give_back, give_back_all_but, repair};
pub use record::{Device, Record};
pub use taken::{holder, take};

/// The records of devices.
type Devices = Store<Record>;

impl Stored for Record {
    const DIR: &'static str = "/run/moor/device";
    /// Some thousand routes.
    const LONGEST: usize = 1 << 20;

    fn owner(&self) -> &Owner {
        &self.owner
    }

    fn print(&self) -> String {
        text::write(self)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        text::read(text)
    }
}
