//! An index of leases by holder, which saves reading the directory: a hash table in a file on a
//! tmpfs.
//!
//! The table is a cache. It is valid only while its header has this boot and the modification time
//! of the lease directory. Our last operation set that time explicitly, to the nanosecond, so that
//! any other change of the directory overwrites it and makes the table invalid. (The kernel's own
//! times are too coarse for this: two changes within one tick have the same time.) An entry is a
//! hint: its user reads the lease file and compares. All access is under the store's lock.
//!
//! Layout, in native byte order: a header, then slots of (key, address), with open addressing
//! without wrap-around: a key's entries are between its home slot and the first empty one. At most
//! half of the slots are in use, so a lookup reads a few dozen bytes for any number of leases.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: u64 = u64::from_be_bytes(*b"moorlix1");
const HEADER: usize = 64;
const SLOT: usize = 24;
/// Slots after the last home, for clusters that extend beyond it: there is no wrap-around.
const SPILL: u64 = 256;
/// Slots per read; a cluster is nearly always shorter.
const WINDOW: u64 = 16;
const MIN_CAPACITY: u64 = 256;
/// Far more than any range of a host; a header with more is corrupt.
const MAX_CAPACITY: u64 = 1 << 32;

/// The state for which the table is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Hash of the boot id.
    pub boot: u64,
    /// Modification time of the lease directory, nanoseconds since the epoch.
    pub dir_mtime: i128,
    /// Whether the boot record on the disk has this boot.
    pub recorded: bool,
}

/// The table, open.
#[derive(Debug)]
pub struct Index {
    file: File,
    capacity: u64,
    live: u64,
}

/// The hash of a text, never 0 (an empty slot). FNV-1a with a final mix; a collision costs one more
/// file read.
pub fn key(text: &str) -> u64 {
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash ^ (hash >> 29)).max(1)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    key: u64,
    ip: u128,
}

impl Slot {
    fn new(key: u64, ip: IpAddr) -> Self {
        let ip = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { key, ip: ip.to_bits() }
    }

    fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.ip)).to_canonical()
    }

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.key.to_ne_bytes());
        bytes.extend_from_slice(&self.ip.to_ne_bytes());
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (key, ip) = bytes.split_first_chunk()?;
        Some(Self { key: u64::from_ne_bytes(*key), ip: u128::from_ne_bytes(*ip.first_chunk()?) })
    }
}

impl Index {
    /// Opens the table, and returns with it whether the boot record is written; `None` when it is
    /// missing, corrupt, or of another state of the directory.
    pub fn open(path: &Path, boot: u64, dir_mtime: i128) -> Option<(Self, bool)> {
        let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).ok()?;
        let mut fields = header.chunks_exact(8).filter_map(|field| field.first_chunk().copied());
        let mut field = || fields.next();
        let magic = u64::from_ne_bytes(field()?);
        let wanted = u64::from_ne_bytes(field()?);
        let mtime = i128::from_ne_bytes(*[field()?, field()?].concat().first_chunk()?);
        let capacity = u64::from_ne_bytes(field()?);
        let live = u64::from_ne_bytes(field()?);
        let recorded = u64::from_ne_bytes(field()?) != 0;
        let sane = magic == MAGIC
            && capacity.is_power_of_two()
            && (MIN_CAPACITY..=MAX_CAPACITY).contains(&capacity)
            && live <= capacity;
        (sane && wanted == boot && mtime == dir_mtime).then_some((Self { file, capacity, live }, recorded))
    }

    /// Writes a new table with these entries, in an existing directory. It is not valid until
    /// [`Index::stamp`].
    pub fn build(path: &Path, entries: &[(u64, IpAddr)]) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut index = Self { file, capacity: MIN_CAPACITY, live: 0 };
        index.fill(entries.iter().map(|(key, ip)| Slot::new(*key, *ip)).collect())?;
        Ok(index)
    }

    /// Makes the table valid for this state of the directory.
    pub fn stamp(&self, stamp: Stamp) -> io::Result<()> {
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&MAGIC.to_ne_bytes());
        header.extend_from_slice(&stamp.boot.to_ne_bytes());
        header.extend_from_slice(&stamp.dir_mtime.to_ne_bytes());
        for field in [self.capacity, self.live, u64::from(stamp.recorded)] {
            header.extend_from_slice(&field.to_ne_bytes());
        }
        header.resize(HEADER, 0);
        self.file.write_all_at(&header, 0)
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many entries there are.
    pub fn count(&self) -> u64 {
        self.live
    }

    /// The addresses that the key's holder may have.
    pub fn get(&self, key: u64) -> io::Result<Vec<IpAddr>> {
        let (_, cluster) = self.cluster(key)?;
        Ok(cluster.iter().filter(|slot| slot.key == key).map(|slot| slot.ip()).collect())
    }

    /// Adds an entry.
    pub fn insert(&mut self, key: u64, ip: IpAddr) -> io::Result<()> {
        let slot = Slot::new(key, ip);
        if (self.live + 1) * 2 > self.capacity {
            return self.grow(slot);
        }
        let (home, cluster) = self.cluster(key)?;
        let free = home + count(&cluster);
        if free >= self.capacity + SPILL {
            return self.grow(slot);
        }
        self.write(free, &[slot])?;
        self.live += 1;
        Ok(())
    }

    /// Removes an entry, if it exists, and closes the gap: later entries of the cluster move up as
    /// far as their homes allow.
    pub fn remove(&mut self, key: u64, ip: IpAddr) -> io::Result<()> {
        let (home, mut cluster) = self.cluster(key)?;
        let Some(gone) = cluster.iter().position(|slot| *slot == Slot::new(key, ip)) else { return Ok(()) };
        let mut hole = gone;
        for at in gone + 1..cluster.len() {
            let Some(slot) = cluster.get(at).copied() else { break };
            let distance = self.home(slot.key).saturating_sub(home);
            if distance <= u64::try_from(hole).unwrap_or(u64::MAX) {
                cluster.swap(hole, at);
                hole = at;
            }
        }
        if let Some(slot) = cluster.get_mut(hole) {
            *slot = Slot::default();
        }
        let changed = cluster.get(gone..=hole).unwrap_or_default();
        self.write(home + u64::try_from(gone).unwrap_or(u64::MAX), changed)?;
        self.live = self.live.saturating_sub(1);
        Ok(())
    }

    fn home(&self, key: u64) -> u64 {
        key & (self.capacity - 1)
    }

    /// The home of the key, and the slots from there to the first empty one.
    fn cluster(&self, key: u64) -> io::Result<(u64, Vec<Slot>)> {
        let home = self.home(key);
        let end = self.capacity + SPILL;
        let mut slots = Vec::new();
        let mut at = home;
        while at < end {
            for slot in self.read(at, WINDOW.min(end - at))? {
                if slot.key == 0 {
                    return Ok((home, slots));
                }
                slots.push(slot);
            }
            at = home + count(&slots);
        }
        Ok((home, slots))
    }

    fn read(&self, at: u64, slots: u64) -> io::Result<Vec<Slot>> {
        let mut bytes = vec![0; SLOT * usize::try_from(slots).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, offset(at))?;
        Ok(bytes.chunks_exact(SLOT).filter_map(Slot::read).collect())
    }

    fn write(&self, at: u64, slots: &[Slot]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(slots.len() * SLOT);
        slots.iter().for_each(|slot| slot.write(&mut bytes));
        self.file.write_all_at(&bytes, offset(at))
    }

    fn grow(&mut self, more: Slot) -> io::Result<()> {
        let mut slots = self.read(0, self.capacity + SPILL)?;
        slots.retain(|slot| slot.key != 0);
        slots.push(more);
        self.capacity *= 2;
        self.fill(slots)
    }

    /// Rewrites all slots with a capacity of at least twice their number, in which all of them fit.
    fn fill(&mut self, mut slots: Vec<Slot>) -> io::Result<()> {
        let wanted = (count(&slots) * 2 + 2).next_power_of_two();
        self.capacity = self.capacity.max(wanted);
        while self.capacity <= MAX_CAPACITY {
            let size = usize::try_from(self.capacity + SPILL).map_err(io::Error::other)?;
            // In the order of homes, each entry goes to its home or after the previous entry.
            slots.sort_unstable_by_key(|slot| self.home(slot.key));
            let mut table = Vec::with_capacity(size * SLOT);
            let mut next = 0;
            for slot in &slots {
                let at = self.home(slot.key).max(next);
                table.resize(usize::try_from(at).map_err(io::Error::other)? * SLOT, 0);
                slot.write(&mut table);
                next = at + 1;
            }
            if next <= self.capacity + SPILL {
                table.resize(size * SLOT, 0);
                self.file.write_all_at(&table, offset(0))?;
                self.live = count(&slots);
                return Ok(());
            }
            self.capacity *= 2;
        }
        Err(io::Error::from(io::ErrorKind::FileTooLarge))
    }
}

fn count(slots: &[Slot]) -> u64 {
    u64::try_from(slots.len()).unwrap_or(u64::MAX)
}

fn offset(slot: u64) -> u64 {
    HEADER as u64 + slot * SLOT as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const STAMP: Stamp = Stamp { boot: 7, dir_mtime: 1_700_000_000_123_456_789, recorded: true };

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    fn reopen(path: &Path) -> Index {
        Index::open(path, STAMP.boot, STAMP.dir_mtime).unwrap().0
    }

    #[test]
    fn a_table_is_valid_only_for_its_boot_and_directory_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        let index = Index::build(&path, &[(key("a"), ip(1))]).unwrap();
        assert!(Index::open(&path, 0, 0).is_none(), "not stamped yet");
        index.stamp(STAMP).unwrap();
        let (read, recorded) = Index::open(&path, STAMP.boot, STAMP.dir_mtime).unwrap();
        assert_eq!((read.get(key("a")).unwrap(), recorded), (vec![ip(1)], true));
        assert!(Index::open(&path, STAMP.boot, STAMP.dir_mtime + 1).is_none());
        assert!(Index::open(&path, 8, STAMP.dir_mtime).is_none());
    }

    #[test]
    fn a_corrupt_table_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        for bytes in [&b""[..], b"moorlix1", &[0xff; 10_000], &[0; 10_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Index::open(&path, STAMP.boot, STAMP.dir_mtime).is_none());
        }
        // A table cut off after a good header: the lookup fails instead of finding nothing.
        let index = Index::build(&path, &[]).unwrap();
        index.stamp(STAMP).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(reopen(&path).get(key("a")).is_err());
    }

    #[test]
    fn addresses_of_both_families_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::build(&dir.path().join("index"), &[]).unwrap();
        let ips = [ip(0x0a00_0001), "fd00::1".parse().unwrap(), "::1".parse().unwrap()];
        for ip in ips {
            index.insert(key("a"), ip).unwrap();
        }
        assert_eq!(index.get(key("a")).unwrap(), ips);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..Default::default() })]

        /// Few homes and many keys: long clusters, growth, and closed gaps.
        #[test]
        fn a_table_equals_a_map(steps in prop::collection::vec((any::<bool>(), 0_u64..40, 0_u32..12), 0..700)) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("index");
            let mut index = Index::build(&path, &[]).unwrap();
            let mut model = BTreeMap::<(u64, u32), ()>::new();
            for (add, n, host) in steps {
                // Homes 250 to 255 of 256, so that clusters extend beyond the last home.
                let key = 250 + n % 6 + (n << 40);
                if add {
                    if model.insert((key, host), ()).is_none() {
                        index.insert(key, ip(host)).unwrap();
                    }
                } else {
                    model.remove(&(key, host));
                    index.remove(key, ip(host)).unwrap();
                }
                prop_assert_eq!(index.live, model.len() as u64);
            }
            index.stamp(STAMP).unwrap();
            let index = reopen(&path);
            for n in 0..40 {
                let key = 250 + n % 6 + (n << 40);
                let mut found = index.get(key).unwrap();
                found.sort();
                let wanted: Vec<_> = model.range((key, 0)..=(key, 99)).map(|((_, host), ())| ip(*host)).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
