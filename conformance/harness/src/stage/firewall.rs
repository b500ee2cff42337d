//! Containers of several networks behind the plugin `firewall`, and who reaches whom.

use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::lan::{AMPLE, addresses_of};
use crate::config::USUAL;
use crate::namespace::Container;
use crate::room::Room;
use crate::room::call::Answer;
use crate::socket;

/// The configuration of the network of that number: `net1`, behind `br1`.
pub fn network(number: usize) -> Value {
    let ranges =
        json!([[{"subnet": format!("10.{number}.0.0/24")}], [{"subnet": format!("2001:db8:{number}::/64")}]]);
    json!({
        "cniVersion": USUAL, "name": format!("net{number}"), "type": "bridge", "bridge": format!("br{number}"),
        "isDefaultGateway": true, "ipam": {"type": "host-local", "ranges": ranges},
    })
}

/// A configuration of the firewall with the previous plugin's result.
pub fn firewall(name: &str, keys: &Value, previous: &Value) -> Value {
    let config = json!({"cniVersion": USUAL, "name": name, "type": "firewall", "prevResult": previous});
    crate::config::with(&config, keys.clone())
}

/// An attached container.
#[derive(Debug)]
pub struct Behind {
    /// The container.
    pub container: Container,
    /// The bridge's configuration.
    pub bridge: Value,
    /// The bridge's result.
    pub result: Value,
}

impl Behind {
    /// A new container of the network of that number, without a firewall.
    pub fn open(room: &Room, id: &str, number: usize) -> Result<Self> {
        let (container, bridge) = (room.container(id)?, network(number));
        let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        Ok(Self { container, bridge, result })
    }

    /// A new container of the network of that number, behind the firewall.
    pub fn add(room: &Room, id: &str, number: usize, keys: &Value) -> Result<Self> {
        let behind = Self::open(room, id, number)?;
        behind.call(room, "ADD", keys)?.result()?;
        Ok(behind)
    }

    /// The name of the network.
    pub fn network(&self) -> &str {
        self.bridge["name"].as_str().unwrap_or_default()
    }

    /// The configuration of the firewall.
    pub fn config(&self, keys: &Value) -> Value {
        firewall(self.network(), keys, &self.result)
    }

    /// Calls the firewall.
    pub fn call(&self, room: &Room, verb: &str, keys: &Value) -> Result<Answer> {
        room.attach("firewall", verb, &self.container).config(&self.config(keys)).run()
    }

    /// DEL of both plugins.
    pub fn del(&self, room: &Room) -> Result<()> {
        self.call(room, "DEL", &json!({}))?.silent()?;
        room.attach("bridge", "DEL", &self.container).config(&self.bridge).run()?.silent()
    }

    /// The container's addresses.
    pub fn addresses(&self) -> Result<[String; 2]> {
        addresses_of(&self.result)
    }

    /// The container's port on the bridge.
    pub fn port(&self) -> Result<&str> {
        self.result["interfaces"][1]["name"].as_str().context("no host veth")
    }
}

/// Who connects to whom, and whether it must succeed. Without a port, any answer of the address
/// counts.
#[derive(Clone, Debug)]
pub struct Way {
    /// A namespace; `None` is the host.
    pub from: Option<&'static str>,
    /// The addresses, of both families.
    pub to: [String; 2],
    /// A TCP port with a server.
    pub port: Option<u16>,
    /// Whether it is open.
    pub open: bool,
}

/// Requires it of all ways and both families, at the same time: a closed way takes long to try.
pub fn expect(room: &Room, when: &str, ways: &[Way]) -> Result<()> {
    let wrong = std::thread::scope(|scope| -> Result<Vec<String>> {
        let mut threads = Vec::new();
        for way in ways {
            for to in &way.to {
                threads.push(scope.spawn(move || -> Result<Option<String>> {
                    let is_open = passes(room, way, to.parse()?)?;
                    let from = way.from.unwrap_or("host");
                    Ok((is_open != way.open).then(|| format!("{from} to {to} {:?}: {is_open}", way.port)))
                }));
            }
        }
        let done =
            threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?);
        done.filter_map(Result::transpose).collect()
    })?;
    ensure!(wrong.is_empty(), "{when}: {}", wrong.join("; "));
    Ok(())
}

fn passes(room: &Room, way: &Way, to: IpAddr) -> Result<bool> {
    let patience = if way.open { socket::patience() } else { AMPLE };
    let attempt = || {
        Ok(match way.port {
            None => socket::reach(to, patience).is_ok(),
            Some(port) => TcpStream::connect_timeout(&SocketAddr::new(to, port), patience).is_ok(),
        })
    };
    match way.from {
        Some(ns) => room.inside(ns, attempt),
        None => attempt(),
    }
}
