//! What etcd has, as this host knows it: the last full read, the events since, and what this agent
//! has written itself.

use std::collections::{BTreeMap, HashMap};

use cluster::decode::{Record, decode};
use cluster::key::{Endpoint, Key};
use cluster::left_out::{Fault, LeftOut};
use cluster::record;

/// A record as etcd delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The key, with the prefix.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision that created the key.
    pub created: i64,
    /// The revision that wrote the value.
    pub modified: i64,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The record has this value now.
    Put(Raw),
    /// The record is gone, since this revision.
    Deleted(Vec<u8>, i64),
}

/// A record of the cache.
#[derive(Clone, Debug)]
pub struct Item {
    /// The record; `None` if it cannot be read: the key is taken all the same.
    pub record: Option<Record>,
    /// The revision that created the key.
    pub created: i64,
    /// The revision that wrote the value.
    pub modified: i64,
}

/// The records, and why some are left out.
#[derive(Debug, Default)]
pub struct Cache {
    prefix: String,
    items: BTreeMap<Key, Item>,
    left_out: HashMap<Vec<u8>, LeftOut>,
    /// What a restored etcd lacks of other hosts; see [`Cache::replace_restored`].
    carried: BTreeMap<Key, Item>,
    /// Keys that this agent changed, with the revision: an older event is not applied.
    own: HashMap<Key, i64>,
    /// Everything up to this revision is known.
    revision: i64,
    /// A full read has been done.
    is_whole: bool,
}

macro_rules! getters {
    ($($(#[$meta:meta])* $name:ident: $kind:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(&self, key: &Key) -> Option<&record::$kind> {
            match self.items.get(key)?.record.as_ref()? {
                Record::$kind(record) => Some(record),
                _ => None,
            }
        }
    )*};
}

impl Cache {
    /// An empty cache of the keys below `<prefix>/1/`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..Self::default() }
    }

    getters! {
        /// The record of this key, if it is one of that kind.
        meta: Meta;
        /// As [`Cache::meta`].
        host: Host;
        /// As [`Cache::meta`].
        alive: Alive;
        /// As [`Cache::meta`].
        net: Net;
        /// As [`Cache::meta`].
        block: Block;
        /// As [`Cache::meta`].
        lent: Lent;
        /// As [`Cache::meta`].
        own: Own;
        /// As [`Cache::meta`].
        ask: Ask;
    }

    /// All items, and what is carried.
    pub fn believed(&self) -> impl Iterator<Item = (&Key, &Item)> {
        let carried = self.carried.iter().filter(|(key, _)| !self.items.contains_key(*key));
        self.items.iter().chain(carried)
    }

    /// The owner of a block that is carried.
    pub fn carried_owner(&self, block: &Key) -> Option<&str> {
        match &self.carried.get(block)?.record {
            Some(Record::Block(block)) => Some(block.host.as_str()),
            _ => None,
        }
    }

    /// The blocks of a network that are carried.
    pub fn carried_blocks(&self, network: &str) -> impl Iterator<Item = std::net::IpAddr> {
        self.carried.keys().filter_map(move |key| match key {
            Key::Block { network: name, first } if name == network => Some(*first),
            _ => None,
        })
    }

    /// Forgets what is carried; returns whether there was anything.
    pub fn drop_carried(&mut self) -> bool {
        !std::mem::take(&mut self.carried).is_empty()
    }

    /// Whether a full read has been done.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The revision up to which everything is known.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The item of a key.
    pub fn get(&self, key: &Key) -> Option<&Item> {
        self.items.get(key)
    }

    /// Whether the key is taken.
    pub fn has(&self, key: &Key) -> bool {
        self.items.contains_key(key)
    }

    /// All items, by key.
    pub fn items(&self) -> impl Iterator<Item = (&Key, &Item)> {
        self.items.iter()
    }

    /// Records that cannot be read.
    pub fn left_out(&self) -> impl Iterator<Item = &LeftOut> {
        self.left_out.values()
    }

    /// The ids of all hosts that have a record.
    pub fn hosts(&self) -> impl Iterator<Item = (&str, &record::Host)> {
        self.items
            .range(Key::Host(String::new())..)
            .map_while(|(key, item)| match (key, &item.record) {
                (Key::Host(id), Some(Record::Host(host))) => Some(Some((id.as_str(), host))),
                (Key::Host(_), _) => Some(None),
                _ => None,
            })
            .flatten()
    }

    /// The names of all networks that have a record.
    pub fn nets(&self) -> impl Iterator<Item = (&str, &record::Net)> {
        self.items
            .range(Key::Net(String::new())..)
            .map_while(|(key, item)| match (key, &item.record) {
                (Key::Net(name), Some(Record::Net(net))) => Some(Some((name.as_str(), net))),
                (Key::Net(_), _) => Some(None),
                _ => None,
            })
            .flatten()
    }

    /// The questions for addresses.
    pub fn asks(&self) -> impl Iterator<Item = (&Key, &Item)> {
        let from = Key::Ask { network: String::new(), address: None, host: String::new() };
        self.items.range(from..).take_while(|(key, _)| matches!(key, Key::Ask { .. }))
    }

    /// The blocks of a network: first address, owner, and the creating revision. One whose record
    /// cannot be read has no owner.
    pub fn blocks<'a>(&'a self, network: &'a str) -> impl Iterator<Item = (std::net::IpAddr, &'a str, i64)> {
        let from = Key::Block { network: network.to_owned(), first: std::net::Ipv4Addr::UNSPECIFIED.into() };
        self.items.range(from..).map_while(move |(key, item)| match key {
            Key::Block { network: name, first } if name == network => {
                let owner = match &item.record {
                    Some(Record::Block(block)) => block.host.as_str(),
                    _ => "",
                };
                Some((*first, owner, item.created))
            }
            _ => None,
        })
    }

    /// The loans of a network.
    pub fn loans<'a>(
        &'a self,
        network: &'a str,
    ) -> impl Iterator<Item = (std::net::IpAddr, &'a record::Lent, i64)> {
        let from = Key::Lent { network: network.to_owned(), address: std::net::Ipv4Addr::UNSPECIFIED.into() };
        self.items
            .range(from..)
            .map_while(move |(key, item)| match (key, &item.record) {
                (Key::Lent { network: name, address }, Some(Record::Lent(lent))) if name == network => {
                    Some(Some((*address, lent, item.modified)))
                }
                (Key::Lent { network: name, .. }, _) if name == network => Some(None),
                _ => None,
            })
            .flatten()
    }

    /// The attachments of a network on a host.
    pub fn endpoints<'a>(
        &'a self,
        network: &'a str,
        host: &'a str,
    ) -> impl Iterator<Item = (&'a Endpoint, Option<&'a record::EndpointRecord>)> {
        let from = Key::Endpoint(Endpoint {
            network: network.to_owned(),
            host: host.to_owned(),
            container: String::new(),
            ifname: String::new(),
        });
        self.items.range(from..).map_while(move |(key, item)| match key {
            Key::Endpoint(endpoint) if endpoint.network == network && endpoint.host == host => {
                let record = match &item.record {
                    Some(Record::Endpoint(record)) => Some(record),
                    _ => None,
                };
                Some((endpoint, record))
            }
            _ => None,
        })
    }

    /// Every record that stands for this host and none other: what reclaiming it deletes, but its
    /// own record and the mark of its silence.
    pub fn belongings(&self, host: &str) -> Vec<&Key> {
        let is_its = |key: &Key, item: &Item| match (key, &item.record) {
            (Key::Endpoint(endpoint), _) => endpoint.host == host,
            (Key::Own { host: owner, .. } | Key::Ask { host: owner, .. }, _) => owner == host,
            (Key::Block { .. }, Some(Record::Block(block))) => block.host == host,
            (Key::Lent { .. }, Some(Record::Lent(lent))) => lent.to == host,
            _ => false,
        };
        self.items.iter().filter(|(key, item)| is_its(key, item)).map(|(key, _)| key).collect()
    }

    /// Takes over a full read.
    pub fn replace(&mut self, records: &[Raw], revision: i64) {
        self.items.clear();
        self.left_out.clear();
        self.own.clear();
        self.revision = revision;
        self.is_whole = true;
        for raw in records {
            self.put(raw);
        }
    }

    /// Takes over the first full read of an etcd that was restored from a backup. What it lacks of
    /// other hosts, these write again within seconds: until then it is carried, as younger than all.
    pub fn replace_restored(&mut self, records: &[Raw], revision: i64, own: &str) {
        let mut before = std::mem::take(&mut self.items);
        before.append(&mut self.carried);
        self.replace(records, revision);
        let is_carried = |key: &Key, item: &Item| match (key, &item.record) {
            (Key::Host(host) | Key::Alive(host) | Key::Own { host, .. }, _) => host != own,
            (Key::Endpoint(endpoint), _) => endpoint.host != own,
            (Key::Block { .. }, Some(Record::Block(block))) => block.host != own,
            (Key::Net(_), _) => true,
            _ => false,
        };
        before.retain(|key, item| is_carried(key, item) && !self.items.contains_key(key));
        before.values_mut().for_each(|item| item.created = i64::MAX);
        self.carried = before;
    }

    /// Applies events of the watch, complete up to `revision`. Returns whether one brought something
    /// new: what this agent wrote itself is known.
    pub fn apply(&mut self, changes: &[Change], revision: i64) -> bool {
        let mut is_new = false;
        for change in changes {
            let (key, at) = match change {
                Change::Put(raw) => (&raw.key, raw.modified),
                Change::Deleted(key, at) => (key, *at),
            };
            let parsed = Key::parse(key, &self.prefix).ok();
            if parsed.as_ref().and_then(|key| self.own.get(key)).is_some_and(|own| *own >= at) {
                continue;
            }
            is_new = true;
            match change {
                Change::Put(raw) => self.put(raw),
                Change::Deleted(key, _) => {
                    self.left_out.remove(key);
                    if let Some(key) = parsed {
                        self.items.remove(&key);
                        self.carried.remove(&key);
                    }
                }
            }
        }
        self.revision = self.revision.max(revision);
        let known = self.revision;
        self.own.retain(|_, at| *at > known);
        is_new
    }

    /// Applies what this agent wrote or read at a revision: the record, or that there is none.
    pub fn learn(&mut self, key: &Key, raw: Option<&Raw>, revision: i64) {
        if revision < self.revision || self.own.get(key).is_some_and(|at| *at > revision) {
            return;
        }
        match raw {
            Some(raw) => self.put(raw),
            None => {
                self.items.remove(key);
                self.left_out.remove(key.path(&self.prefix).as_bytes());
            }
        }
        self.own.insert(key.clone(), revision);
    }

    fn put(&mut self, raw: &Raw) {
        let key = match Key::parse(&raw.key, &self.prefix) {
            Ok(key) => key,
            Err(why) => return self.leave_out(&raw.key, why),
        };
        if !self.items.contains_key(&key) && self.items.len() >= cluster::RECORDS_MAX {
            return self.leave_out(&raw.key, Fault::TooMany);
        }
        let record = match decode(&key, &raw.value) {
            Ok(record) => {
                self.left_out.remove(&raw.key);
                Some(record)
            }
            Err(why) => {
                self.leave_out(&raw.key, why);
                None
            }
        };
        self.items.insert(key, Item { record, created: raw.created, modified: raw.modified });
    }

    fn leave_out(&mut self, key: &[u8], why: Fault) {
        // Whoever writes nonsense without end does not fill this process's memory.
        if self.left_out.len() < 1000 {
            self.left_out.insert(key.to_vec(), LeftOut::of_bytes(key, why));
        }
    }
}
