//! Reads everything on this host that names an attachment.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use host::intent::Records;
use host::{Owner, rules};
use serde_json::Value;

use super::leftover::{Claimed, Key, Kind};
use crate::context::Context;
use crate::files;
use crate::leases;
use crate::model::{Attachment, Model, State};
use crate::networks::Networks;
use crate::output::Note;

/// Where the plugin dns keeps its records: `<namespace>/net/<network>/att/<file>`.
const NAMES: &str = "/run/moor/dns";
/// The longest record of names that is read, in bytes.
const NAME_MAX: u64 = 1 << 20;

/// All objects. What could not be read is added to the model's notes.
pub fn read(context: &Context, networks: &Networks, model: &mut Model, older_than: Duration) -> Vec<Claimed> {
    let mut claims: Vec<Claimed> = model.attachments.iter().filter_map(record).collect();
    for report in leases::read(context, networks, model, older_than) {
        for lease in report.leases.iter().filter(|lease| !lease.container_id.is_empty()) {
            // Old releases of the reference wrote no interface.
            let ifname = if lease.ifname.is_empty() { "eth0" } else { &lease.ifname };
            claims.push(Claimed {
                key: Key::new(&report.network, &lease.container_id, ifname),
                kind: Kind::Lease,
                object: lease.address.to_string(),
                file: Some(report.dir.join(lease.address.to_string())),
                written: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(lease.written_at)),
                is_dead: lease.state.is_dead(),
            });
        }
    }
    claims.extend(names(Path::new(NAMES)));
    let mut notes = Vec::new();
    claims.extend(noted(intents(), &mut notes));
    claims.extend(links(model));
    claims.extend(noted(elements(), &mut notes));
    model.notes.extend(notes);
    claims
}

fn noted(read: sys::Result<Vec<Claimed>>, notes: &mut Vec<Note>) -> Vec<Claimed> {
    read.unwrap_or_else(|error| {
        notes.push(Note::new("rules", format!("{error:#}")));
        Vec::new()
    })
}

fn record(one: &Attachment) -> Option<Claimed> {
    let file = one.record_file.clone()?;
    Some(Claimed {
        key: Key::new(&one.network, &one.container_id, &one.ifname),
        kind: Kind::Record,
        object: one.shown_name().to_owned(),
        written: one.added_at.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
        file: Some(file),
        is_dead: one.state == State::Gone,
    })
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn names(root: &Path) -> Vec<Claimed> {
    let networks = entries(root).into_iter().flat_map(|namespace| entries(&namespace.join("net")));
    let records = networks.flat_map(|network| entries(&network.join("att")));
    records.filter_map(|file| name(&file)).collect()
}

fn name(file: &Path) -> Option<Claimed> {
    if file.file_name()?.as_encoded_bytes().starts_with(b".") {
        return None;
    }
    let (bytes, about) = files::read_described(file, NAME_MAX).ok()?;
    let record: Value = serde_json::from_slice(&bytes).ok()?;
    let text = |key: &str| record.get(key)?.as_str().filter(|text| !text.is_empty());
    let names = record.get("names").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<_> = names.filter_map(Value::as_str).collect();
    Some(Claimed {
        key: Key::new(text("network")?, text("container")?, text("ifname")?),
        kind: Kind::Name,
        object: names.join(" "),
        file: Some(file.to_owned()),
        written: about.modified().ok(),
        is_dead: true,
    })
}

fn intents() -> sys::Result<Vec<Claimed>> {
    let Some(records) = Records::open_if_any()? else { return Ok(Vec::new()) };
    let (all, _) = records.dated()?;
    let now = sys::clock::since_boot()?;
    let time = |since: u64| SystemTime::now().checked_sub(Duration::from_nanos(now.saturating_sub(since)));
    let claim = |(record, written): (host::intent::Record, u64)| Claimed {
        object: record.owner.label(),
        key: record.owner.into(),
        kind: Kind::Intent,
        file: None,
        written: time(written),
        is_dead: true,
    };
    Ok(all.into_iter().map(claim).collect())
}

fn links(model: &Model) -> Vec<Claimed> {
    let owned = model.kernel.host.links.iter().filter_map(|link| {
        let owner = Owner::of_label(link.alias.as_deref()?)?;
        Some(Claimed {
            key: owner.into(),
            kind: Kind::Link,
            object: link.name.clone(),
            file: None,
            written: None,
            // A link with another end in a namespace is that of a living attachment.
            is_dead: model.kernel.container_end(link).is_none(),
        })
    });
    owned.collect()
}

fn elements() -> sys::Result<Vec<Claimed>> {
    let nft = match rules::open() {
        Err(error) if rules::is_without_nf_tables(&error) => return Ok(Vec::new()),
        opened => opened?,
    };
    let entries = rules::inventory(&nft)?.entries.into_iter();
    let owned = entries.filter_map(|entry| Some((Owner::of_label(&entry.label)?, entry)));
    Ok(owned
        .map(|(owner, entry)| Claimed {
            key: owner.into(),
            kind: Kind::Element,
            object: format!("{} {}", entry.set, entry.key),
            file: None,
            written: None,
            is_dead: true,
        })
        .collect())
}
