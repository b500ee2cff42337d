//! A hash that is the same in a restarted process, for derived names and addresses.

/// FNV-1a, 64 bits. Not for secrets: a collision costs one more candidate.
pub fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
