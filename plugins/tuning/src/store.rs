//! The directory of records.

use host::{Owner, Stored};

use crate::record::Record;
use crate::text;

/// The records, locked.
pub type Store = host::Store<Record>;

impl Stored for Record {
    const DIR: &'static str = "/run/moor/tuning";
    /// The most parameters, each with its longest values.
    const LONGEST: usize = 8 << 20;

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

/// The records of the container's other attachments in its namespace.
///
/// # Errors
/// They cannot be listed.
pub fn siblings(store: &Store, owner: &Owner, space: &str) -> sys::Result<Vec<Record>> {
    let mut records = store.of_container(&owner.container_id)?;
    records.retain(|record| record.space == space && record.owner.ifname != owner.ifname);
    Ok(records)
}
