//! Names of other hosts' containers, for the responder of `dns`: a file for each network and host,
//! and a packet to the responder when one has changed. If no responder runs, nothing is sent: it reads
//! the files when it starts.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use cluster::local::RemoteNames;
use dns::remote::{Put, RemoteFiles};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};

/// What has been written of a network, by host.
type Hosts = BTreeMap<String, RemoteNames>;

/// The files as they were written.
#[derive(Debug)]
pub struct Names {
    /// The responder's state directory.
    dir: PathBuf,
    files: RemoteFiles,
    written: BTreeMap<String, Hosts>,
}

impl Names {
    /// The files below the responder's state directory.
    pub fn new(dir: PathBuf) -> Self {
        Self { files: RemoteFiles::at(&dir), dir, written: BTreeMap::new() }
    }

    /// Writes the files of all networks with containers here, and removes all others. Returns what
    /// failed, by network; it is tried again with the next change.
    pub fn set(&mut self, wanted: &BTreeMap<String, Hosts>) -> BTreeMap<String, String> {
        let mut failed = BTreeMap::new();
        let known: BTreeSet<String> = match self.written.is_empty() {
            // Of an agent before this one.
            true => self.files.networks().unwrap_or_default().into_iter().collect(),
            false => self.written.keys().cloned().collect(),
        };
        for network in known.iter().filter(|network| !wanted.contains_key(*network)) {
            let had = self.files.hosts(network).is_ok_and(|hosts| !hosts.is_empty());
            match self.files.remove_network(network) {
                Ok(()) => drop(self.written.remove(network)),
                Err(error) => drop(failed.insert(network.clone(), format!("{error:#}"))),
            }
            if had {
                self.tell(network);
            }
        }
        for (network, hosts) in wanted {
            if self.written.get(network) == Some(hosts) {
                continue;
            }
            match self.write(network, hosts) {
                Ok(()) => drop(self.written.insert(network.clone(), hosts.clone())),
                Err(why) => drop(failed.insert(network.clone(), why)),
            }
        }
        failed
    }

    fn write(&self, network: &str, hosts: &Hosts) -> Result<(), String> {
        let mut changed = false;
        let there = self.files.hosts(network).map_err(|error| format!("{error:#}"))?;
        for host in there.iter().filter(|host| !hosts.contains_key(*host)) {
            changed |= self.files.remove(network, host).map_err(|error| error.to_string())?;
        }
        for (host, names) in hosts {
            if there.contains(host)
                && self.written.get(network).and_then(|written| written.get(host)) == Some(names)
            {
                continue;
            }
            match self.files.put(network, host, names).map_err(|error| error.to_string())? {
                Put::Written => changed = true,
                Put::Same => {}
                Put::Later => return Err("the responder's records were removed".to_owned()),
            }
        }
        if changed {
            self.tell(network);
        }
        Ok(())
    }

    /// Has the responder read the network's records, if it runs. Nothing waits for it: its answer is
    /// not read, and the socket never blocks.
    fn tell(&self, network: &str) {
        let attempt = || -> nix::Result<()> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            connect(socket.as_raw_fd(), &UnixAddr::new(&self.dir.join("control.sock"))?)?;
            let packet =
                dns::control::ControlRequest::Sync { network: network.to_owned(), key: None }.to_packet();
            send(socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL).map(drop)
        };
        // Without a responder there is nobody to tell; one that starts reads the files.
        let _ = attempt();
    }
}
