//! `struct tc_ratespec`, and rates that exceed it.

use crate::attr::{Attr, Malformed};

/// Length of `struct tc_ratespec`: u8, u8 link layer, u16, i16, u16, u32 rate.
pub(super) const LENGTH: usize = 12;
/// TC_LINKLAYER_ETHERNET: the kernel computes times itself and needs no table.
const ETHERNET: u8 = 1;

/// A rate in bytes per second; `None` is none.
pub(super) fn spec(rate: Option<u64>) -> [u8; LENGTH] {
    let mut spec = [0; LENGTH];
    let Some(rate) = rate else { return spec };
    let bytes = u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes();
    if let Some(field) = spec.get_mut(1) {
        *field = ETHERNET;
    }
    for (to, from) in spec.iter_mut().skip(8).zip(bytes) {
        *to = from;
    }
    spec
}

/// The rate for an attribute of its own: what `struct tc_ratespec` cannot hold.
pub(super) fn beyond(rate: u64) -> Option<u64> {
    (rate > u64::from(u32::MAX)).then_some(rate)
}

/// The rate in such an attribute.
pub(super) fn whole(attr: &Attr<'_>) -> Result<u64, Malformed> {
    let bytes = attr.payload.first_chunk().ok_or(Malformed("a rate is too short"))?;
    Ok(u64::from_ne_bytes(*bytes))
}

/// The rate in a `struct tc_ratespec` at an offset.
pub(super) fn read(bytes: &[u8], at: usize) -> Option<u64> {
    super::word(bytes, at + 8).map(u64::from)
}
