//! Hash maps for lookups of every query.
//!
//! The hash is one multiplication per eight bytes and one at the end, seeded with a secret of
//! this process. Clients that choose names or addresses do not know which of them collide, and
//! learn no more than response times show. The default hash of std resists stronger attacks, at
//! four times the cost.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

/// A map with that hash.
pub(crate) type Map<K, V> = HashMap<K, V, Secret>;

/// The seed of the hash.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret(u64);

/// An odd number with equally many ones and zeroes, from the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Secret {
    fn default() -> Self {
        static SECRET: OnceLock<u64> = OnceLock::new();
        // Without a random generator the seed is known, and the map still works.
        Self(*SECRET.get_or_init(|| sys::random::bytes().map_or(MULTIPLIER, u64::from_ne_bytes)))
    }
}

impl BuildHasher for Secret {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// The state of the hash.
pub(crate) struct Mixed(u64);

impl Mixed {
    /// Folds both halves of the product: upper bits of the factors only affect its upper
    /// half.
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(MULTIPLIER);
        let half = |product: u128| u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
        self.0 = half(product) ^ half(product >> 64);
    }
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.mix(last);
        }
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(u64::try_from(number).unwrap_or(0));
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn finish(&self) -> u64 {
        // Without this multiplication, inputs that differ by a constant would have
        // hashes that do.
        let mut last = Mixed(self.0);
        last.mix(self.0 >> 32);
        last.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::IpAddr;

    use super::*;

    /// Names and addresses are similar to each other. Neither the lower bits nor the upper
    /// seven, which a map uses first, may be.
    #[test]
    fn similar_keys_have_different_hashes() {
        let secret = Secret(1);
        let names = (0..4096).map(|n| secret.hash_one(format!("name{n}").as_bytes()));
        let v4 = (0..4096u32).map(|n| secret.hash_one(IpAddr::from((0x0a00_0000 + n).to_be_bytes())));
        let v6 = (0..4096u128).map(|n| secret.hash_one(IpAddr::from((0xfd << 120 | n).to_be_bytes())));
        for hashes in [names.collect::<Vec<_>>(), v4.collect(), v6.collect()] {
            // Random hashes would fill 63 % of the values.
            let taken: HashSet<u64> = hashes.iter().map(|hash| hash & 4095).collect();
            assert!(taken.len() > 2400, "{} of 4096", taken.len());
            let upper: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert_eq!(upper.len(), 128);
        }
        assert_ne!(Secret(1).hash_one("a"), Secret(2).hash_one("a"));
    }
}
