//! Frees leaked addresses: the network's IPAM plugin is asked to, as it would be by a runtime.

use std::fs::OpenOptions;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use runtime::Runtime;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sys::file::{self, Hold, PATIENCE};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::Networks;
use crate::output::{self, Note, escaped};

use super::judge::{Evidence, Limits};
use super::report::StoreReport;
use super::stores::{Lease, read_lease};

/// How long a plugin may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Only DEL; every release of host-local knows it.
const VERSION: &str = "0.4.0";

/// What was done.
#[derive(Debug, Default)]
pub struct Freed {
    items: Vec<Freeing>,
    notes: Vec<Note>,
}

/// An address that was freed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Freeing {
    network: String,
    address: IpAddr,
    container_id: String,
    ifname: String,
    freed: bool,
}

/// Frees the dead leases of these reports, each after another look.
pub fn free(context: &Context, networks: &Networks, reports: &[StoreReport], older_than: Duration) -> Freed {
    let mut freed = Freed::default();
    for report in reports.iter().filter(|report| !report.leases.is_empty()) {
        match still_dead(context, networks, report, older_than) {
            Ok(dead) => dead.iter().for_each(|lease| freed.free(context, report, lease)),
            Err(reason) => freed.notes.push(Note::about("lock", &report.dir, reason)),
        }
    }
    freed
}

/// Looks again while nobody can lease: those that are dead now, too. The lock is released before the
/// plugin is called, which takes it itself. Meanwhile another container may get the address, but no
/// container gets the id, by which the plugin frees.
fn still_dead(
    context: &Context,
    networks: &Networks,
    report: &StoreReport,
    older_than: Duration,
) -> Result<Vec<Lease>, String> {
    let path = report.dir.join("lock");
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW).bits();
    let lock = OpenOptions::new().read(true).custom_flags(flags).open(&path);
    let lock = lock.map_err(|error| format!("open the lock: {error}"))?;
    file::lock_bounded(&lock, &path, Hold::Alone, PATIENCE).map_err(|error| format!("{error:#}"))?;
    let mut model = Model::read(context, networks);
    model.deepen(networks);
    let (evidence, limits) = (Evidence::of(&model), Limits::of(older_than));
    let again = report.leases.iter().filter_map(|old| {
        let lease = read_lease(&report.dir, old.address).ok()?;
        let is_same = lease == old.lease;
        (is_same && evidence.judge(&lease, &limits).0.is_dead()).then_some(lease)
    });
    Ok(again.collect())
}

impl Freed {
    fn free(&mut self, context: &Context, report: &StoreReport, lease: &Lease) {
        let asked = ask(context, report, lease);
        let is_there = read_lease(&report.dir, lease.address).is_ok_and(|now| now == *lease);
        if let Err(reason) = asked {
            self.notes.push(Note::about("free", &report.dir.join(lease.address.to_string()), reason));
        } else if is_there {
            let file = report.dir.join(lease.address.to_string());
            self.notes.push(Note::about("free", &file, "the plugin did not free it"));
        }
        self.items.push(Freeing {
            network: report.network.clone(),
            address: lease.address,
            container_id: lease.container_id.clone(),
            ifname: lease.ifname.clone(),
            freed: !is_there,
        });
    }

    /// Prints what was done. Exit status 1 if something could not be freed.
    pub fn print(&self, context: &Context) -> Result<Exit, Failure> {
        if context.json {
            output::document("freed-leases", &self.items, &self.notes)?;
        } else {
            output::notes(&self.notes);
            let line = |one: &Freeing| {
                let Freeing { network, address, container_id, ifname, .. } = one;
                format!("{}\n", escaped(&format!("freed {address} of {network}: {container_id} {ifname}")))
            };
            output::print(&self.items.iter().filter(|one| one.freed).map(line).collect::<String>())?;
        }
        let is_done = self.notes.is_empty() && self.items.iter().all(|one| one.freed);
        Ok(if is_done { Exit::Done } else { Exit::Found })
    }
}

/// DEL to the plugin that leases here.
fn ask(context: &Context, report: &StoreReport, lease: &Lease) -> Result<(), String> {
    let request = request(report, lease).ok_or("the directory has no name of a network")?;
    let mut runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.timeout = TIMEOUT;
    // A lease without an interface is that of any interface of the container.
    let ifname = if lease.ifname.is_empty() { "eth0" } else { &lease.ifname };
    let env = [
        ("CNI_CONTAINERID", Some(lease.container_id.as_str())),
        ("CNI_IFNAME", Some(ifname)),
        ("CNI_NETNS", Some("")),
    ];
    let output = runtime.exec_plugin("host-local", "DEL", &env, request.to_string().as_bytes());
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Err(format!("host-local DEL: {}: {}", output.status_text(), text.trim()))
}

/// The plugin's request. It has a range, which host-local wants even where it does not matter.
fn request(report: &StoreReport, lease: &Lease) -> Option<Value> {
    let is_ours = |ipam: &&Value| ipam.get("type").and_then(Value::as_str) == Some("host-local");
    let plugins = report.list.iter().flat_map(|list| &list.plugins);
    let own = plugins.filter_map(|plugin| plugin.object.get("ipam")).find(is_ours);
    let mut ipam = own.and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    let (dir, name) = (report.dir.parent()?, report.dir.file_name()?.to_str()?);
    ipam.insert("type".into(), "host-local".into());
    ipam.insert("dataDir".into(), path_text(dir)?.into());
    if !ipam.contains_key("ranges") && !ipam.contains_key("subnet") {
        let subnet = match lease.address {
            IpAddr::V4(address) => format!("{}/24", std::net::Ipv4Addr::from(u32::from(address) & !0xff)),
            IpAddr::V6(address) => {
                format!("{}/64", std::net::Ipv6Addr::from(u128::from(address) & !u128::from(u64::MAX)))
            }
        };
        ipam.insert("ranges".into(), json!([[{"subnet": subnet}]]));
    }
    Some(json!({"cniVersion": VERSION, "name": name, "type": "host-local", "ipam": ipam}))
}

fn path_text(path: &Path) -> Option<String> {
    path.to_str().map(ToOwned::to_owned)
}
