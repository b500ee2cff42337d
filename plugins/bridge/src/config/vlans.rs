//! The VLANs of the container's port.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use cni::Error;
use cni::keys::{Key, Kind, key};
use serde::Deserialize;

/// IEEE 802.1Q, 9.6: 0 means no VLAN, 4095 is reserved.
const VLAN_IDS: RangeInclusive<i64> = 1..=4094;

/// An item of `vlanTrunk`.
/// The keys of an item of `vlanTrunk`, and their values.
pub(super) const TRUNK_KEYS: &[Key] = &[
    key("id", Kind::Number(1, 4094)),
    key("minID", Kind::Number(1, 4094)),
    key("maxID", Kind::Number(1, 4094)),
];

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct TrunkConf {
    id: Option<i64>,
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
}

/// The port's untagged VLAN; 0 means none.
pub(super) fn vlan(id: i64) -> Result<Option<u16>, Error> {
    match u16::try_from(id) {
        Ok(0) => Ok(None),
        Ok(vlan) if VLAN_IDS.contains(&id) => Ok(Some(vlan)),
        _ => Err(Error::invalid_config(format!("invalid VLAN ID {id} (must be between 0 and 4094)"))),
    }
}

/// The union of the items, each an `id`, a range, or both.
pub(super) fn trunk(items: &[TrunkConf]) -> Result<BTreeSet<u16>, Error> {
    let invalid = |text: &str| Error::invalid_config(text);
    let one = |id: i64, text: &str| {
        u16::try_from(id).ok().filter(|_| VLAN_IDS.contains(&id)).ok_or_else(|| invalid(text))
    };
    let mut ids = BTreeSet::new();
    for item in items {
        match (item.min_id, item.max_id) {
            (Some(_), None) => {
                return Err(invalid("minID and maxID should be configured simultaneously, maxID is missing"));
            }
            (None, Some(_)) => {
                return Err(invalid("minID and maxID should be configured simultaneously, minID is missing"));
            }
            (Some(min), Some(max)) => {
                let min = one(min, "incorrect trunk minID parameter")?;
                let max = one(max, "incorrect trunk maxID parameter")?;
                if min > max {
                    return Err(invalid("minID is greater than maxID in trunk parameter"));
                }
                ids.extend(min..=max);
            }
            (None, None) => {}
        }
        if let Some(id) = item.id {
            ids.insert(one(id, "incorrect trunk id parameter")?);
        }
    }
    Ok(ids)
}
