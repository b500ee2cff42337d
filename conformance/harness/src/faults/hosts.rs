//! Trials on a host of a cluster, with one member of etcd.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::cluster::host::{Guest, Host};
use crate::patience::on_this_machine;
use crate::room::Room;
use crate::room::call::{Answer, Call};
use crate::{diff, leftover, namespace, snapshot};

/// The container. No hexadecimal digits spell it.
const ID: &str = "lodger";
/// How long something may be there after DEL, which waits for its removal.
const SOON: Duration = Duration::from_secs(1);

/// The range from `/moor/1/ep/` to `/moor/1/ep0`.
const ATTACHMENTS: &str = r#"{"key":"L21vb3IvMS9lcC8=","range_end":"L21vb3IvMS9lcDA=","keys_only":true}"#;

/// A host that has an agent and a network, and no container on it.
pub struct OnHost<'r> {
    room: &'r Room,
    cluster: Cluster<'r>,
    guest: Guest,
    before: Vec<String>,
}

impl<'r> OnHost<'r> {
    /// Makes it, by an ADD and a DEL.
    pub fn new(room: &'r Room, plugin: &str, config: &Value) -> Result<Self> {
        let cluster = Cluster::new(room, 1, 1)?;
        let guest = cluster.hosts.first().context("a host")?.container(ID)?;
        let mut place = Self { room, cluster, guest, before: vec![] };
        place.run(place.call(plugin, "ADD").config(config))?.result().context("the first ADD")?;
        place.run(place.call(plugin, "DEL").config(config))?.silent()?;
        place.before = place.host().inside(|| room.snapshot())?;
        Ok(place)
    }

    fn host(&self) -> &Host<'r> {
        &self.cluster.hosts[0]
    }

    /// A call for the container.
    pub fn call(&self, plugin: &str, verb: &str) -> Call<'r> {
        self.host().call(plugin, verb, &self.guest)
    }

    /// Runs a call on the host.
    pub fn run(&self, call: Call<'_>) -> Result<Answer> {
        self.host().run(call)
    }

    /// The state of the host, as far as a trial can change it alone: a full one takes longer than
    /// the trial.
    pub fn snapshot(&self) -> Result<Vec<String>> {
        self.host().inside(|| {
            let links = links_here()?.into_iter().map(|link| format!("link {link}"));
            Ok(links.chain(snapshot::rules()?).chain(self.room.files()).collect())
        })
    }

    /// What the attachment left on the host and in the container.
    pub fn left(&self, before: &[String]) -> Result<Vec<String>> {
        let deadline = Instant::now() + on_this_machine(SOON);
        loop {
            let changes = diff::lines(before, &self.snapshot()?);
            let mut left = leftover::of_attachments(&changes, &[], &[ID]);
            let links = namespace::inside(&self.guest.ns, links_here)?.into_iter();
            left.extend(links.filter(|link| link != "lo").map(|link| format!("+ link {link} inside")));
            if left.is_empty() || Instant::now() > deadline {
                return Ok(left);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Requires that everything on the host is as before the trials.
    pub fn ensure_as_before(&self) -> Result<()> {
        let left = self.host().inside(|| self.room.left_since(&self.before, &[], &[ID]))?;
        ensure!(left.is_empty(), "left behind by all trials of the room: {}", diff::shown(&left));
        Ok(())
    }

    /// Requires that etcd has no record of an attachment.
    pub fn ensure_nothing_in_etcd(&self) -> Result<()> {
        let gone = || {
            let found = self.attachments()?;
            ensure!(!found.contains("\"kvs\""), "left in etcd: {found}");
            Ok(())
        };
        self.cluster.until(SOON, gone).map(drop)
    }

    /// The response of etcd to a question for all records of attachments. `etcdctl` takes as long
    /// as a trial.
    fn attachments(&self) -> Result<String> {
        let member = self.cluster.etcd.members.first().context("a member of etcd")?;
        let endpoint = member.endpoint();
        let address = endpoint.strip_prefix("http://").context("an address")?;
        let request = format!(
            "POST /v3/kv/range HTTP/1.0\r\nContent-Length: {}\r\n\r\n{ATTACHMENTS}",
            ATTACHMENTS.len()
        );
        namespace::inside(&member.name, || {
            let mut stream = TcpStream::connect(address).context("connect to etcd")?;
            stream.set_read_timeout(Some(on_this_machine(SOON)))?;
            stream.write_all(request.as_bytes())?;
            let mut response = String::new();
            stream.read_to_string(&mut response).context("read the response of etcd")?;
            ensure!(response.contains("\"revision\""), "etcd responded {response:?}");
            Ok(response)
        })
    }
}

/// The links of the calling thread's namespace.
fn links_here() -> Result<Vec<String>> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").context("list links")?;
    Ok(text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}
