//! From a value of etcd to a record: every bound is checked here, and what the rest of the cluster
//! makes of it is checked in [`crate::tree`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::check::Checked;
use crate::key::Key;
use crate::left_out::Fault;
use crate::record::{Alive, Ask, Block, EndpointRecord, Grace, Host, Lent, Meta, Net, Own, Silent, Vni};
use crate::{VALUE_MAX, VERSION};

/// A record of etcd, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// See [`Key::Meta`].
    Meta(Meta),
    /// See [`Key::Host`].
    Host(Host),
    /// See [`Key::Alive`].
    Alive(Alive),
    /// See [`Key::Silent`].
    Silent(Silent),
    /// See [`Key::Grace`].
    Grace(Grace),
    /// See [`Key::Net`].
    Net(Net),
    /// See [`Key::Vni`].
    Vni(Vni),
    /// See [`Key::Block`].
    Block(Block),
    /// See [`Key::Lent`].
    Lent(Lent),
    /// See [`Key::Own`].
    Own(Own),
    /// See [`Key::Ask`].
    Ask(Ask),
    /// See [`Key::Endpoint`].
    Endpoint(EndpointRecord),
}

/// Reads the value of a key.
///
/// # Errors
/// It is not the record of such a key, or a newer release's.
pub fn decode(key: &Key, value: &[u8]) -> Result<Record, Fault> {
    Ok(match key {
        Key::Meta => Record::Meta(read(value)?),
        Key::Host(_) => Record::Host(read(value)?),
        Key::Alive(_) => Record::Alive(read(value)?),
        Key::Silent(_) => Record::Silent(read(value)?),
        Key::Grace(_) => Record::Grace(read(value)?),
        Key::Net(_) => Record::Net(read(value)?),
        Key::Vni(_) => Record::Vni(read(value)?),
        Key::Block { .. } => Record::Block(read(value)?),
        Key::Lent { .. } => Record::Lent(read(value)?),
        Key::Own { .. } => Record::Own(read(value)?),
        Key::Ask { .. } => Record::Ask(read(value)?),
        Key::Endpoint(_) => Record::Endpoint(read(value)?),
    })
}

/// Reads the value of one kind of record, also from a copy in a file.
///
/// # Errors
/// It is not such a record, or a newer release's.
pub fn read<T: DeserializeOwned + Checked>(value: &[u8]) -> Result<T, Fault> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u64,
    }
    if value.len() > VALUE_MAX {
        return Err(Fault::ValueTooLong);
    }
    let record: T = match serde_json::from_slice(value) {
        Ok(record) => record,
        // Another version may be of another shape.
        Err(error) => {
            return Err(match serde_json::from_slice(value) {
                Ok(Versioned { v }) if v != u64::from(VERSION) => Fault::Version(v),
                _ => Fault::json(&error),
            });
        }
    };
    if record.version() != VERSION {
        return Err(Fault::Version(record.version().into()));
    }
    record.check()?;
    Ok(record)
}

/// The value of a record. (No record has what JSON cannot express.)
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_json::to_vec(record).unwrap_or_default()
}

#[cfg(test)]
mod tests;
