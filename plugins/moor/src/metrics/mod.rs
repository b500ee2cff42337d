//! `moor metrics`: attachments, ranges and files as numbers for Prometheus.

mod text;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sys::file::{self, Sync};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::leases::{self, StoreReport};
use crate::model::{Attachment, Model};
use crate::networks::Networks;
use crate::output::{document, notes, print};

use self::text::{Kind, Sample, Series, Text};

/// The kind of its document.
pub const KIND: &str = "metrics";

/// The age from which a lease is judged, as `moor leases` has it.
const OLDER_THAN: Duration = Duration::from_secs(600);

/// The mode of the file.
const MODE: u32 = 0o644;

/// The arguments of `moor metrics`.
#[derive(Args)]
pub struct MetricsArgs {
    /// Write to a file, by rename, for the textfile collector of the node exporter
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Bytes and packets of each container, too: a series for each
    #[arg(long)]
    per_container: bool,
}

/// Prints the metrics. When something could not be seen, they say so, and the status is 3.
pub fn run(context: &Context, args: &MetricsArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut model = Model::read(context, &networks);
    let leases = leases::read(context, &networks, &mut model, OLDER_THAN);
    let facts = Facts { networks: &networks, model: &model, leases: &leases, conntrack: conntrack() };
    let (text, samples) = facts.text(args.per_container);
    if context.json {
        document(KIND, &samples, &model.notes)?;
    } else {
        notes(&model.notes);
    }
    match &args.output {
        Some(file) => write(file, &text)?,
        None if context.json => {}
        None => print(&text)?,
    }
    Ok(if facts.is_complete() { Exit::Done } else { Exit::Incomplete })
}

/// Replaces the file. Its collector reads every name that ends in `.prom`; that of the draft does
/// not.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let written = file::replace_whole(file, text.as_bytes(), MODE, Sync::Later);
    written.map_err(|error| Failure::refused(format!("{error:#}")))?;
    // Whatever the umask: the collector is another user.
    fs::set_permissions(file, fs::Permissions::from_mode(MODE))
        .map_err(|error| Failure::refused(format!("make {} readable: {error}", file.display())))
}

/// What the metrics are made of.
struct Facts<'f> {
    networks: &'f Networks,
    model: &'f Model,
    leases: &'f [StoreReport],
    conntrack: Option<(u64, u64)>,
}

impl Facts<'_> {
    fn is_complete(&self) -> bool {
        self.model.notes.is_empty()
    }

    fn text(&self, per_container: bool) -> (String, Vec<Sample>) {
        let mut text = Text::default();
        self.attachments(&mut text);
        self.ranges(&mut text);
        let conflists = Series::from([
            (vec!["read".to_owned()], self.networks.all.len() as u128),
            (vec!["unreadable".to_owned()], self.networks.notes.len() as u128),
        ]);
        let help = "Files of the configuration directories.";
        text.add("moor_conflists", help, Kind::Gauge, &["state"], &conflists);
        if let Some((used, max)) = self.conntrack {
            text.gauge("moor_conntrack_used", "Connections that are tracked.", used.into());
            text.gauge("moor_conntrack_max", "Connections that can be tracked.", max.into());
        }
        if per_container {
            self.containers(&mut text);
        }
        let help = "1 when everything could be seen.";
        text.gauge("moor_scrape_complete", help, self.is_complete().into());
        text.finish()
    }

    fn attachments(&self, text: &mut Text) {
        let mut states = Series::new();
        for one in &self.model.attachments {
            let runtime = one.runtime.clone().unwrap_or_default();
            *states.entry(vec![one.network.clone(), runtime, one.state.word().to_owned()]).or_default() += 1;
        }
        let help = "Attachments of containers to networks.";
        text.add("moor_attachments", help, Kind::Gauge, &["network", "runtime", "state"], &states);
        let alive = || self.model.attachments.iter().filter(|one| one.may_be_alive());
        let ports: usize = alive().map(|one| one.ports.len()).sum();
        text.gauge("moor_published_ports", "Published ports of the host.", ports as u128);
        let names: usize = alive().map(|one| one.names.len()).sum();
        text.gauge("moor_names", "Names that containers have on their networks.", names as u128);
        let drift: usize = self.model.attachments.iter().map(|one| one.drift.len()).sum();
        text.gauge("moor_check_drift", "Differences between records and the kernel.", drift as u128);
    }

    fn ranges(&self, text: &mut Text) {
        let mut addresses = Series::new();
        for report in self.leases {
            for range in &report.ranges {
                let states = [("used", range.used), ("free", range.free), ("leaked", range.leaked)];
                for (state, count) in states {
                    let labels = vec![report.network.clone(), range.subnet.to_string(), state.to_owned()];
                    *addresses.entry(labels).or_default() += count;
                }
            }
        }
        let help = "Addresses of the ranges that host-local leases.";
        text.add("moor_range_addresses", help, Kind::Gauge, &["network", "range", "state"], &addresses);
    }

    /// What the link of the host has received, the container has sent.
    fn containers(&self, text: &mut Text) {
        let labels = ["network", "container", "interface"];
        for (name, counter, help) in [
            ("moor_container_receive_bytes_total", "tx_bytes", "Bytes that the container received."),
            ("moor_container_receive_packets_total", "tx_packets", "Packets that the container received."),
            ("moor_container_transmit_bytes_total", "rx_bytes", "Bytes that the container sent."),
            ("moor_container_transmit_packets_total", "rx_packets", "Packets that the container sent."),
        ] {
            let of = |one: &Attachment| {
                let key = vec![one.network.clone(), one.container_id.clone(), one.ifname.clone()];
                Some((key, statistic(one.host_link.as_deref()?, counter)?))
            };
            let series: Series = self.model.attachments.iter().filter_map(of).collect();
            text.add(name, help, Kind::Counter, &labels, &series);
        }
    }
}

/// A counter of a link of this host.
fn statistic(link: &str, counter: &str) -> Option<u128> {
    if link.contains('/') || link.starts_with('.') {
        return None;
    }
    let file = Path::new("/sys/class/net").join(link).join("statistics").join(counter);
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn conntrack() -> Option<(u64, u64)> {
    let number = |name: &str| sys::sysctl::read(&format!("net/netfilter/{name}")).ok()?.trim().parse().ok();
    Some((number("nf_conntrack_count")?, number("nf_conntrack_max")?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests;
