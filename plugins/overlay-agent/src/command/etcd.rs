//! The cluster's records in etcd itself, for commands.

use std::path::Path;
use std::time::Duration;

use cluster::key;

use super::failure::Failure;
use super::store::Store;
use crate::etcd::{Client, Comparison, Error, Operation, Txn};
use crate::state::cache::{Cache, Raw};
use crate::txn;

/// How long a pause is.
const PAUSE: Duration = Duration::from_millis(100);

/// etcd, by the settings of this host.
pub(super) struct Etcd {
    client: Client,
    prefix: String,
    /// How many members there are.
    members: usize,
}

impl Etcd {
    /// Reads the settings; nothing is sent yet.
    pub fn open(config: &Path) -> Result<Self, Failure> {
        let settings = agent::read_settings(config).map_err(|error| {
            let hint = "it names the members of etcd and the certificates: see the page of overlay";
            Failure::unreachable(error.msg).hint(hint)
        })?;
        Ok(Self {
            client: Client::new(&settings),
            members: settings.endpoints.len(),
            prefix: settings.prefix,
        })
    }

    fn failed(&self, error: &Error) -> Failure {
        let failure = Failure::unreachable(error.to_string());
        match error {
            Error::Unreachable(_) => failure.hint(format!(
                "is one of the {} members up, and reached from this host? Containers go on meanwhile",
                self.members
            )),
            Error::NoQuorum(_) => {
                failure.hint("more than half of the members must be up: look at their logs")
            }
            _ => failure,
        }
    }
}

impl Store for Etcd {
    fn read(&mut self) -> Result<Cache, Failure> {
        let whole = self.client.read(key::root(&self.prefix).as_bytes());
        let whole = whole.map_err(|error| self.failed(&error))?.value;
        for left_out in &whole.left_out {
            eprintln!("overlay: {}", super::table::clean(&format!("{}: {}", left_out.key, left_out.why)));
        }
        let records: Vec<Raw> = whole
            .records
            .into_iter()
            .map(|record| Raw {
                key: record.key,
                value: record.value,
                created: record.create_revision,
                modified: record.mod_revision,
            })
            .collect();
        let mut cache = Cache::new(&self.prefix);
        cache.replace(&records, whole.revision);
        Ok(cache)
    }

    fn pause(&mut self) {
        std::thread::sleep(PAUSE);
    }

    fn commit(&mut self, txn: &txn::Txn) -> Result<bool, Failure> {
        let path = |key: &key::Key| key.path(&self.prefix).into_bytes();
        let compare = txn.compares.iter().map(|compare| match compare {
            txn::Compare::Absent(key) => Comparison::CreateRevision(path(key), 0),
            txn::Compare::Unchanged(key, revision) => Comparison::ModRevision(path(key), *revision),
            txn::Compare::Value(key, value) => Comparison::Value(path(key), value.clone()),
        });
        let then = txn.ops.iter().map(|op| match op {
            // Commands write nothing under a lease.
            txn::Op::Put(key, value, _) => Operation::Put { key: path(key), value: value.clone(), lease: 0 },
            txn::Op::Delete(key) => Operation::Delete(path(key)),
        });
        let txn = Txn { compare: compare.collect(), then: then.collect(), otherwise: Vec::new() };
        match self.client.txn(&txn) {
            Ok(answer) => Ok(answer.value.succeeded),
            Err(error) => Err(self.failed(&error).hint("it may be done all the same: run the command again")),
        }
    }
}
