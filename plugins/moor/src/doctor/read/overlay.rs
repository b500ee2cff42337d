//! The host as a part of a cluster: its configuration, the members of etcd, its agent.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cluster::local::SETTINGS;
use cluster::settings::Settings;

use super::super::facts::{Credential, OverlayFacts};
use super::certificate;
use super::sockets;
use crate::files;
use crate::networks::Networks;
use crate::overlay;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 1 << 20;
/// How long a member may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// The most members that are asked.
const MEMBERS_MAX: usize = 32;
/// What a hypervisor says of itself.
const VENDOR: &str = "/sys/class/dmi/id/sys_vendor";

/// The facts; `None` if nothing here spans hosts.
pub fn facts(networks: &Networks) -> Option<OverlayFacts> {
    let content = match files::read(Path::new(SETTINGS), FILE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{SETTINGS}: {error}")),
    };
    let conflists = conflists(networks);
    if conflists.is_empty() && matches!(content, Ok(None)) {
        return None;
    }
    let mut facts = OverlayFacts { conflists, ..OverlayFacts::default() };
    let parsed = content.and_then(|content| {
        Settings::parse(Path::new(SETTINGS), content.as_deref()).map_err(|error| error.to_string())
    });
    let settings = match parsed {
        Ok(settings) => settings,
        Err(why) => {
            facts.unusable = Some(why);
            return Some(facts);
        }
    };
    facts.members = members(&settings.endpoints);
    facts.credentials = credentials(&settings);
    facts.agent = overlay::ask();
    // What cannot be read is reported by other commands.
    facts.attached = overlay::attachments(&mut Vec::new()).len();
    let known = overlay::networks().into_iter();
    facts.networks = known.filter_map(|(name, net)| Some((name, net.mtu?, net.encrypted))).collect();
    facts.port = settings.port;
    facts.port_taken = sockets::udp_owner(settings.port);
    let vendor = fs::read_to_string(VENDOR).unwrap_or_default();
    facts.vmware = vendor.starts_with("VMware");
    Some(facts)
}

fn conflists(networks: &Networks) -> Vec<String> {
    let spans = |network: &&crate::networks::Network| {
        network.list.plugins.iter().any(|plugin| {
            let ipam = plugin.object.get("ipam").and_then(|ipam| ipam.get("type")?.as_str());
            plugin.plugin_type == "overlay" || ipam == Some("cluster")
        })
    };
    networks.all.iter().filter(spans).map(|network| network.name().to_owned()).collect()
}

/// Connects to each member, at once.
fn members(endpoints: &[String]) -> Vec<(String, Option<String>)> {
    let endpoints = endpoints.get(..MEMBERS_MAX).unwrap_or(endpoints);
    thread::scope(|scope| {
        let asked: Vec<_> =
            endpoints.iter().map(|endpoint| scope.spawn(move || connect(endpoint).err())).collect();
        let outcome = |asked: thread::ScopedJoinHandle<'_, Option<String>>| {
            asked.join().unwrap_or_else(|_| Some("it could not be asked".into()))
        };
        endpoints.iter().cloned().zip(asked.into_iter().map(outcome)).collect()
    })
}

fn connect(endpoint: &str) -> Result<(), String> {
    let (_, authority) = endpoint.split_once("://").ok_or("no address")?;
    let addresses = authority.trim_end_matches('/').to_socket_addrs().map_err(|error| error.to_string())?;
    let mut fault = "no address".to_owned();
    // Of several addresses one is enough.
    for address in addresses.take(4) {
        match TcpStream::connect_timeout(&address, CONNECT) {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                fault = format!("no connection within {} s", CONNECT.as_secs());
            }
            Err(error) => fault = error.to_string(),
        }
    }
    Err(fault)
}

fn credentials(settings: &Settings) -> Vec<Credential> {
    let named = [
        ("ca", &settings.ca),
        ("cert", &settings.cert),
        ("key", &settings.key),
        ("passwordFile", &settings.password_file),
    ];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let judged = |(key, path): (&'static str, &Option<PathBuf>)| {
        let path = path.clone()?;
        let has_certificates = matches!(key, "ca" | "cert");
        let state = files::read(&path, FILE_MAX).map_err(|error| error.to_string()).and_then(|bytes| {
            match has_certificates {
                true => certificate::first_end(&bytes).map(|end| Some(end - now)),
                false => Ok(None),
            }
        });
        Some(Credential { key, path, state })
    };
    named.into_iter().filter_map(judged).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_member_is_tried_and_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoints = [format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{closed}")];
        let found = members(&endpoints);
        assert_eq!(found[0], (endpoints[0].clone(), None));
        assert!(found[1].1.as_ref().unwrap().contains("refused"), "{found:?}");
    }
}
