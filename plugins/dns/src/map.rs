//! Maps of what is looked up for every question.
//!
//! The hash is one multiplication for every eight bytes and one at the end, begun with a secret of this process: who may choose names or
//! addresses does not know which of them meet, and learns no more of it than the time of an answer tells. What std hashes
//! by withstands more, at four times the cost.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::OnceLock;

/// A map by that hash.
pub(crate) type Map<K, V> = HashMap<K, V, Secret>;

/// What the hash begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secret(u64);

/// Any odd number with as many ones as zeroes: here of the golden ratio.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl Default for Secret {
    fn default() -> Self {
        static SECRET: OnceLock<u64> = OnceLock::new();
        // Without a generator there is a secret less, and a map all the same.
        Self(*SECRET.get_or_init(|| sys::random::bytes().map_or(MULTIPLIER, u64::from_ne_bytes)))
    }
}

impl BuildHasher for Secret {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed(self.0)
    }
}

/// A hash that grows.
pub(crate) struct Mixed(u64);

impl Mixed {
    /// Both halves of the product count: the upper bits of either factor are in the upper one.
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
        // What the last word moved by one step, one multiplication moves by equal steps.
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

    /// Names and addresses are much alike: neither the lower bits nor the upper seven, by which a map looks first, may be.
    #[test]
    fn what_is_much_alike_is_spread() {
        let secret = Secret(1);
        let names = (0..4096).map(|n| secret.hash_one(format!("name{n}").as_bytes()));
        let v4 = (0..4096u32).map(|n| secret.hash_one(IpAddr::from((0x0a00_0000 + n).to_be_bytes())));
        let v6 = (0..4096u128).map(|n| secret.hash_one(IpAddr::from((0xfd << 120 | n).to_be_bytes())));
        for hashes in [names.collect::<Vec<_>>(), v4.collect(), v6.collect()] {
            // At random 63 % of as many places are taken.
            let taken: HashSet<u64> = hashes.iter().map(|hash| hash & 4095).collect();
            assert!(taken.len() > 2400, "{} of 4096", taken.len());
            let upper: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            assert_eq!(upper.len(), 128);
        }
        assert_ne!(Secret(1).hash_one("a"), Secret(2).hash_one("a"));
    }
}
