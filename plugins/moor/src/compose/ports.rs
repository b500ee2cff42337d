//! Published ports of a service: docker's short form, and the long one.

use std::net::IpAddr;

use crate::publish::Publish;
use crate::yaml::{Fault, Node, Place, Value};

use super::keys::ensure_known;

const KEYS: [&str; 7] = ["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"];

/// Ports of a container, and where they are published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Where it stands.
    pub at: Place,
    /// The ports.
    pub ports: Publish,
}

/// Reads an entry of `ports`.
pub fn read(node: &Node) -> Result<Published, Fault> {
    let ports = match &node.value {
        Value::Map(_) => long(node)?,
        _ => {
            let text = node.text("an entry of \"ports\"")?;
            Publish::parse(text).map_err(|fault| Fault::new(node.at, format!("{text:?}: {}", fault.why())))?
        }
    };
    Ok(Published { at: node.at, ports })
}

fn long(node: &Node) -> Result<Publish, Fault> {
    let map = node.map("an entry of \"ports\"")?;
    ensure_known(map, &KEYS)?;
    let Some(target) = map.get("target") else {
        return Err(Fault::new(node.at, "an entry of \"ports\" needs a \"target\""));
    };
    let host_ip = match map.get("host_ip") {
        Some(node) => Some(address(node)?),
        None => None,
    };
    let protocol = match map.get("protocol") {
        Some(node) => {
            let text = node.text("\"protocol\"")?;
            Publish::protocol(text).map_err(|why| Fault::new(node.at, format!("{text:?}: {why}")))?
        }
        None => "tcp",
    };
    let published = map.get("published").filter(|node| !matches!(node.text(""), Ok("")));
    let text = published.map(|node| node.text("\"published\"")).transpose()?;
    let (host_port, container_port, count) = Publish::pair(text, target.text("\"target\"")?)
        .map_err(|why| Fault::new(published.unwrap_or(target).at, why))?;
    Ok(Publish { host_ip, host_port, container_port, count, protocol })
}

fn address(node: &Node) -> Result<IpAddr, Fault> {
    let text = node.text("\"host_ip\"")?;
    text.parse().map_err(|_| Fault::new(node.at, format!("{text:?} is no address")))
}
