//! Mends what can be mended while the container runs. What needs a new attachment is `readd`.

use std::path::Path;

use host::{Owner, rules};
use netlink::{LinkChange, Netlink};
use runtime::{Attachment as Parameters, Conflist, Record, Runtime};
use sys::file::{self, Made, Sync};

use super::compare::Seen;
use super::expected::Expected;
use crate::context::Context;
use crate::files;
use crate::model::{Attachment, Model};

/// The mode of a lease, as host-local has it.
const LEASE_MODE: u32 = 0o600;
const LEASE_MAX: u64 = 192 * 1024;

/// Rules and routes on record, of every attachment. The sentences are what was done.
pub fn rules() -> Result<Vec<String>, String> {
    let made = rules::open().and_then(|nft| rules::reapply(&nft)).map_err(|error| format!("{error:#}"))?;
    let restored = &made.restored;
    if restored.is_nothing() && made.localnet == 0 && made.sources == 0 {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "made {} elements of {} attachments and {} chains again",
        restored.elements,
        restored.owners.len(),
        restored.chains
    )])
}

/// The lease, and the master and the alias of the host's link.
pub fn attachment(
    model: &Model,
    one: &Attachment,
    expected: &Expected,
    seen: &Seen,
) -> Vec<Result<String, String>> {
    let mut done = Vec::new();
    for (path, _) in seen.leases.iter().filter(|(_, content)| content.is_none()) {
        done.extend(lease(model, one, path, &expected.holder).transpose());
    }
    done.extend(port(model, one, expected, seen));
    done
}

/// Writes a missing lease again, if nobody else has the address.
fn lease(model: &Model, one: &Attachment, path: &Path, holder: &str) -> Result<Option<String>, String> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let address = name.to_string_lossy().into_owned();
    let has = |other: &&Attachment| {
        other.network == one.network
            && other.namespace != one.namespace
            && other.addresses.iter().any(|ip| ip.to_string() == address)
    };
    if let Some(other) = model.attachments.iter().find(has) {
        return Err(format!("lease of {address}: {} has the address too", other.shown_name()));
    }
    let fail = |error: sys::Error| format!("lease of {address}: {error:#}");
    let _lock = file::lock(&dir.join("lock"), 0o750).map_err(fail)?;
    if files::read(path, LEASE_MAX).is_ok() {
        return Ok(None);
    }
    match file::create_whole(path, holder.as_bytes(), LEASE_MODE, Sync::Now).map_err(fail)? {
        Made::Exists => Ok(None),
        _ => Ok(Some(format!("wrote the lease of {address} again"))),
    }
}

/// Puts the host's link back on its bridge, with its owner's name.
fn port(model: &Model, one: &Attachment, expected: &Expected, seen: &Seen) -> Option<Result<String, String>> {
    let host = seen.host_link.as_ref()?;
    let label = Owner::new(&one.network, &one.container_id, &one.ifname).label();
    // Only links that Moor made bear a label.
    let is_ours = host.alias.as_deref().is_some_and(|alias| alias.starts_with("moor/"))
        || Owner::new(&one.network, &one.container_id, &one.ifname)
            .host_veth_names()
            .any(|name| name == host.name);
    let bridge = expected.bridge.as_ref().filter(|bridge| seen.master.as_ref() != Some(bridge));
    let master = bridge.and_then(|name| model.kernel.host.links.iter().find(|link| link.name == *name));
    let alias = (is_ours && host.alias.as_deref() != Some(&label)).then_some(label.as_str());
    let up = (!host.up()).then_some(true);
    if master.is_none() && alias.is_none() && up.is_none() {
        return None;
    }
    let change = LinkChange { alias, up, master: master.map(|bridge| bridge.index), ..LinkChange::default() };
    let changed = Netlink::open().and_then(|netlink| netlink.set_link(host.index, &change));
    let words = [
        master.map(|bridge| format!("is a port of {} again", bridge.name)),
        alias.map(|_| "bears its owner's name again".to_owned()),
        up.map(|_| "is up again".to_owned()),
    ];
    let words = words.into_iter().flatten().collect::<Vec<_>>().join(", ");
    Some(changed.map(|()| format!("{} {words}", host.name)).map_err(|error| format!("{error:#}")))
}

/// DEL and ADD with the same names, arguments and addresses.
pub fn readd(
    context: &Context,
    record: &Record,
    list: &Conflist,
    expected: &Expected,
) -> Result<String, String> {
    let mut runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.forward_stderr = false;
    let old = record.attachment.clone();
    let parameters = with_addresses(old.clone(), expected);
    runtime.del(list, &old).map_err(|error| format!("DEL: {error}"))?;
    match runtime.add(list, &parameters) {
        Ok(_) => Ok("attached again".to_owned()),
        Err(error) => {
            // Nothing half made may stay.
            let cleaned = runtime.del(list, &parameters).err();
            let cleaned = cleaned.map(|error| format!("; DEL: {error}")).unwrap_or_default();
            Err(format!("ADD: {error}{cleaned}"))
        }
    }
}

/// The parameters of before, and `IP=` for the addresses of before.
fn with_addresses(mut parameters: Parameters, expected: &Expected) -> Parameters {
    let has = |parameters: &Parameters, key: &str| parameters.args.iter().any(|(name, _)| name == key);
    let addresses: Vec<_> = expected.addresses.iter().map(|net| net.ip().to_string()).collect();
    if !has(&parameters, "IP") && !parameters.capabilities.contains_key("ips") && !addresses.is_empty() {
        if !has(&parameters, "IgnoreUnknown") {
            parameters.args.push(("IgnoreUnknown".into(), "1".into()));
        }
        parameters.args.push(("IP".into(), addresses.join(",")));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attachment_asks_for_its_addresses_again() {
        let expected = Expected {
            addresses: ["10.0.0.2/24", "fd00::2/64"].iter().filter_map(|net| net.parse().ok()).collect(),
            ..Expected::default()
        };
        let asked = with_addresses(Parameters::new("c1", None, "eth0"), &expected);
        assert_eq!(asked.args_text(), "IgnoreUnknown=1;IP=10.0.0.2,fd00::2");
        let mut own = Parameters::new("c1", None, "eth0");
        own.args.push(("IP".into(), "10.0.0.9".into()));
        assert_eq!(with_addresses(own, &expected).args_text(), "IP=10.0.0.9", "as it was asked for at first");
    }
}
