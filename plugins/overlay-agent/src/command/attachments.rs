//! `ls`: the attachments of all hosts.

use cluster::decode::Record;
use cluster::key::Key;
use serde_json::json;

use super::failure::Failure;
use super::hosts::name_of;
use super::table::{joined, table};
use crate::state::cache::Cache;

/// The attachments, of one network or all.
pub(super) fn list(cache: &Cache, network: Option<&str>, json: bool) -> Result<String, Failure> {
    if let Some(network) = network.filter(|name| !cache.has(&Key::Net((*name).to_owned()))) {
        return Err(Failure::refused(format!("there is no network {network:?} in the cluster"))
            .hint("`overlay network ls` lists them; the first ADD makes one"));
    }
    let attachments = cache.items().filter_map(|(key, item)| match (key, &item.record) {
        (Key::Endpoint(endpoint), Some(Record::Endpoint(record))) => Some((endpoint, record)),
        _ => None,
    });
    let attachments = attachments.filter(|(endpoint, _)| network.is_none_or(|name| endpoint.network == name));
    if json {
        let items: Vec<_> = attachments
            .map(|(endpoint, record)| {
                json!({
                    "network": endpoint.network,
                    "container": endpoint.container,
                    "interface": endpoint.ifname,
                    "host": endpoint.host,
                    "hostName": name_of(cache, &endpoint.host),
                    "ips": record.ips,
                    "mac": record.mac,
                    "names": record.names,
                    "drained": record.drained,
                })
            })
            .collect();
        return Ok(format!("{:#}\n", serde_json::Value::Array(items)));
    }
    let rows: Vec<Vec<String>> = attachments
        .map(|(endpoint, record)| {
            vec![
                endpoint.network.clone(),
                endpoint.container.clone(),
                endpoint.ifname.clone(),
                name_of(cache, &endpoint.host),
                joined(&record.ips),
                record.mac.clone(),
                joined(&record.names),
            ]
        })
        .collect();
    Ok(table(&["NETWORK", "CONTAINER", "INTERFACE", "HOST", "ADDRESSES", "MAC", "NAMES"], &rows))
}
