//! The calls.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cluster::settings::Settings;
use serde::de::Deserialize;
use serde_json::{Value, json};

use super::error::{Attempt, Error};
use super::members::{self, Body, Members, Repeat};
use super::request::{self, Txn};
use super::response::{self, Header, LeftOut, Record, Status, TxnAnswer};
use super::watch::Watch;
use super::{RECORDS_MAX, WHOLE_MAX};

/// Records of a page, at first. A page that is too long is asked for again, smaller.
const PAGE: usize = 500;
/// How often a read begins anew because its revision was compacted meanwhile.
const COMPACTIONS_MAX: usize = 3;
/// How long a server of names may take.
const RESOLVE: Duration = Duration::from_secs(1);
/// Whether one is asked at this moment.
static ASKED: AtomicBool = AtomicBool::new(false);

/// The client. Clones share connections, the order of the members, and the token; the files of the
/// settings are read with the first call.
#[derive(Clone, Debug)]
pub struct Client {
    members: Arc<Members>,
}

/// What was answered, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// The cluster, the member, and its newest revision.
    pub header: Header,
    /// The member's URL.
    pub member: String,
}

/// All records under a prefix, at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// The records, by key.
    pub records: Vec<Record>,
    /// Records that are not taken.
    pub left_out: Vec<LeftOut>,
    /// The revision; a watch goes on from the next.
    pub revision: i64,
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self { members: Arc::new(Members::new(settings)) }
    }

    /// All records under a prefix, linearizable, at one revision.
    ///
    /// # Errors
    /// Of etcd; or there are more than this client reads.
    pub fn read(&self, prefix: &[u8]) -> Result<Answer<Whole>, Error> {
        for _ in 1..COMPACTIONS_MAX {
            match self.read_once(prefix) {
                Err(Error::Compacted) => {}
                other => return other,
            }
        }
        self.read_once(prefix)
    }

    fn read_once(&self, prefix: &[u8]) -> Result<Answer<Whole>, Error> {
        let mut records: BTreeMap<Vec<u8>, Record> = BTreeMap::new();
        let mut whole = Whole::default();
        let (mut first, mut most, mut size) = (prefix.to_vec(), PAGE, 0);
        loop {
            let page = request::page(&first, prefix, most, whole.revision);
            let body = self.send("/v3/kv/range", &page, Repeat::Harmless)?;
            if body.bytes.len() > super::RESPONSE_MAX && most > 1 {
                most = most.div_ceil(4);
                continue;
            }
            let range: response::Range<'_> = parse(&body)?;
            if whole.revision == 0 {
                whole.revision = range.header.revision;
            }
            if whole.revision <= 0 {
                return Err(malformed(&body.member, "a read without a revision"));
            }
            let mut last = None;
            for pair in &range.kvs {
                match pair.record() {
                    // Ranges are asked for by prefix; nothing else is taken.
                    Ok(record) if record.key.starts_with(prefix) && record.key >= first => {
                        size += record.key.len() + record.value.len();
                        last = last.max(Some(record.key.clone()));
                        records.insert(record.key.clone(), record);
                    }
                    Ok(_) => return Err(malformed(&body.member, "a key that was not asked for")),
                    Err(left_out) => {
                        last = last.max(pair.key().ok().filter(|key| *key >= first));
                        whole.left_out.push(left_out);
                    }
                }
            }
            if records.len() + whole.left_out.len() > RECORDS_MAX || size > WHOLE_MAX {
                let prefix = response::shown(&String::from_utf8_lossy(prefix));
                let bounds = format!("{RECORDS_MAX} records or {} MiB", WHOLE_MAX >> 20);
                return Err(Error::TooMuch(format!("there are more than {bounds} under {prefix:?}")));
            }
            match (range.more, last) {
                (false, _) => {
                    whole.records = records.into_values().collect();
                    return Ok(Answer { value: whole, header: range.header, member: body.member });
                }
                (true, Some(mut last)) => {
                    last.push(0);
                    first = last;
                }
                (true, None) => return Err(malformed(&body.member, "a page without a key that can be read")),
            }
        }
    }

    /// The newest revision of the records under a prefix, linearizable, or 0. A deletion does not
    /// raise it.
    ///
    /// # Errors
    /// Of etcd.
    pub fn newest(&self, prefix: &[u8]) -> Result<Answer<i64>, Error> {
        let body = self.send("/v3/kv/range", &request::newest(prefix), Repeat::Harmless)?;
        let range: response::Range<'_> = parse(&body)?;
        let newest = range.kvs.iter().map(response::Pair::mod_revision).max().unwrap_or(0);
        Ok(Answer { value: newest, header: range.header, member: body.member })
    }

    /// Does a transaction. It is not sent to another member once one may have done it.
    ///
    /// # Errors
    /// Of etcd; after [`Error::Unreachable`] and [`Error::NoQuorum`] it may be done all the same.
    pub fn txn(&self, txn: &Txn) -> Result<Answer<TxnAnswer>, Error> {
        let body = self.send("/v3/kv/txn", &txn.body()?, Repeat::OnlyUnsent)?;
        let answer: response::Txn<'_> = parse(&body)?;
        Ok(Answer { value: answer.answer(), header: answer.header.clone(), member: body.member })
    }

    /// Writes a value, under a lease unless that is 0.
    ///
    /// # Errors
    /// Of etcd.
    pub fn put(&self, key: &[u8], value: &[u8], lease: i64) -> Result<Answer<()>, Error> {
        self.plain("/v3/kv/put", &request::put(key, value, lease))
    }

    /// Deletes a key, whether it is there or not.
    ///
    /// # Errors
    /// Of etcd.
    pub fn delete(&self, key: &[u8]) -> Result<Answer<()>, Error> {
        self.plain("/v3/kv/deleterange", &json!({"key": request::encode(key)}))
    }

    /// A new lease of so many seconds; its id.
    ///
    /// # Errors
    /// Of etcd.
    pub fn grant(&self, seconds: u32) -> Result<Answer<i64>, Error> {
        let body = self.send("/v3/lease/grant", &json!({"TTL": seconds.to_string()}), Repeat::Harmless)?;
        let lease: response::Lease = parse(&body)?;
        if lease.id == 0 {
            return Err(malformed(&body.member, "a lease without a number"));
        }
        Ok(Answer { value: lease.id, header: lease.header, member: body.member })
    }

    /// Keeps a lease alive; the seconds that it has, or `None` if it has ended.
    ///
    /// # Errors
    /// Of etcd.
    pub fn keep_alive(&self, lease: i64) -> Result<Answer<Option<i64>>, Error> {
        let body = self.send(members::KEEP_ALIVE, &json!({"ID": lease.to_string()}), Repeat::Harmless)?;
        let line: response::Line<response::Lease> = parse(&body)?;
        if let Some(error) = line.error {
            return Err(stream_error(&body.member, &error));
        }
        let Some(kept) = line.result else { return Err(malformed(&body.member, "neither result nor error")) };
        let ttl = Some(kept.ttl).filter(|ttl| *ttl > 0);
        Ok(Answer { value: ttl, header: kept.header, member: body.member })
    }

    /// Ends a lease, and all records under it; whether there was one.
    ///
    /// # Errors
    /// Of etcd.
    pub fn revoke(&self, lease: i64) -> Result<bool, Error> {
        match self.plain("/v3/lease/revoke", &json!({"ID": lease.to_string()})) {
            Ok(_) => Ok(true),
            Err(Error::UnknownLease) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The state of the member that answers first.
    ///
    /// # Errors
    /// Of etcd.
    pub fn status(&self) -> Result<Answer<Status>, Error> {
        let body = self.send("/v3/maintenance/status", &json!({}), Repeat::Harmless)?;
        let mut status: response::MemberStatus = parse(&body)?;
        let header = std::mem::take(&mut status.header);
        Ok(Answer { value: status.status(), header, member: body.member })
    }

    /// Watches the records under a prefix, for changes from this revision on.
    ///
    /// # Errors
    /// Of etcd. That the revision is compacted is reported by the watch itself.
    pub fn watch(&self, prefix: &[u8], revision: i64) -> Result<Watch, Error> {
        Watch::start(&self.members, prefix, revision)
    }

    /// Whether a file with a certificate, a key or the password has changed since the last call.
    pub fn has_new_files(&self) -> bool {
        self.members.has_new_files()
    }

    /// Another member is asked first from now on, if this one was.
    pub fn leave(&self, member: &str) {
        self.members.leave(member);
    }

    /// The source address of the route to a member.
    pub fn source_towards(member: &str) -> Option<IpAddr> {
        let (_, rest) = member.split_once("://")?;
        let target = rest.parse().ok().or_else(|| resolve(rest))?;
        let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        // A datagram socket is connected without a packet.
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(target).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    }

    fn plain(&self, path: &str, body: &Value) -> Result<Answer<()>, Error> {
        let body = self.send(path, body, Repeat::Harmless)?;
        let answer: response::Plain = parse(&body)?;
        Ok(Answer { value: (), header: answer.header, member: body.member })
    }

    fn send(&self, path: &str, body: &Value, repeat: Repeat) -> Result<Body, Error> {
        self.members.call(path, body.to_string().as_bytes(), repeat)
    }
}

/// An error inside a stream that was answered with 200.
pub(super) fn stream_error(member: &str, error: &response::StreamError) -> Error {
    super::failure::of_code(member, error.http_code, error.grpc_code, &error.message).unwrap_or_else(|| {
        let attempt = Attempt { member: member.to_owned(), why: response::shown(&error.message) };
        Error::Refused(super::Refusal::Credentials, attempt)
    })
}

/// The address of a member that is given by name. A server of names can be silent for long, and the
/// caller has others to serve: after a moment the answer is none, and one question is open at most.
fn resolve(member: &str) -> Option<SocketAddr> {
    if ASKED.swap(true, Ordering::AcqRel) {
        return None;
    }
    let (tell, answer) = mpsc::channel();
    let member = member.to_owned();
    let ask = move || {
        let address = member.to_socket_addrs().ok().and_then(|mut all| all.next());
        ASKED.store(false, Ordering::Release);
        // Nobody waits for a late answer.
        let _ = tell.send(address);
    };
    if thread::Builder::new().name("names".into()).spawn(ask).is_err() {
        ASKED.store(false, Ordering::Release);
    }
    answer.recv_timeout(RESOLVE).ok().flatten()
}

fn parse<'a, T: Deserialize<'a>>(body: &'a Body) -> Result<T, Error> {
    if body.bytes.len() > super::RESPONSE_MAX {
        return Err(malformed(&body.member, &format!("more than {} bytes", super::RESPONSE_MAX)));
    }
    response::parse(&body.bytes).map_err(|why| malformed(&body.member, &why))
}

pub(super) fn malformed(member: &str, why: &str) -> Error {
    Error::Malformed(Attempt { member: member.to_owned(), why: why.to_owned() })
}
