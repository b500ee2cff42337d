//! An agent without etcd.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use cluster::block::Space;
use cluster::control::Request as Ask;
use cluster::control::{Answer, PACKET_MAX, PROTOCOL, Status};
use cluster::record::Net;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

use super::*;

/// What etcd has, of one network.
#[derive(Default)]
pub struct Truth {
    pub net: Option<Net>,
    /// The owner of each block.
    pub blocks: BTreeMap<IpAddr, usize>,
    /// Owner and borrower of each lent address.
    pub lent: BTreeMap<IpAddr, (usize, usize)>,
    /// The host's own address in each subnet.
    pub own: BTreeMap<usize, Vec<IpAddr>>,
    /// The directory and the files of each host.
    hosts: BTreeMap<usize, (PathBuf, Files)>,
    /// etcd is away.
    pub away: bool,
}

/// The agent of a host.
pub struct Agent {
    inner: Arc<Inner>,
    socket: PathBuf,
}

fn listening(path: &Path) -> UnixListener {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    socket.into()
}

/// Ends the thread: an empty packet is no request.
impl Drop for Agent {
    fn drop(&mut self) {
        let Ok(socket) = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
        else {
            return;
        };
        let connected = connect(socket.as_raw_fd(), &UnixAddr::new(&self.socket).unwrap());
        if connected.is_ok() {
            let _ = UnixStream::from(socket).write_all(b"end");
        }
    }
}

struct Inner {
    number: usize,
    truth: Arc<Mutex<Truth>>,
    requests: Mutex<Vec<String>>,
}

impl Agent {
    /// Listens as the agent of the host with these files, until the test ends.
    pub fn start(dir: &Path, files: &Files, number: usize, truth: &Arc<Mutex<Truth>>) -> Self {
        truth.lock().unwrap().hosts.insert(number, (dir.to_owned(), files.clone()));
        let inner = Arc::new(Inner { number, truth: truth.clone(), requests: Mutex::default() });
        files.make().unwrap();
        fs::write(files.run().join(cluster::local::CONTACT), "1").unwrap();
        let listener = listening(&files.control());
        let agent = inner.clone();
        std::thread::spawn(move || {
            while let Ok((mut connection, _)) = listener.accept() {
                let mut packet = [0; PACKET_MAX];
                // Reads and writes of such a connection are packets.
                let Ok(length) = connection.read(&mut packet) else { continue };
                let Ok(request) = serde_json::from_slice(&packet[..length]) else { return };
                let answer = serde_json::to_vec(&agent.answer(&request)).unwrap();
                let _ = connection.write_all(&answer);
            }
        });
        Self { inner, socket: files.control() }
    }

    /// The requests since the last call.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.requests.lock().unwrap())
    }
}

impl Inner {
    fn answer(&self, ask: &Ask) -> Answer {
        let name = match ask {
            Ask::Network { .. } => "network",
            Ask::Block { address: None, .. } => "block",
            Ask::Block { .. } => "block of an address",
            Ask::Sync { .. } => "sync",
            Ask::Holder { .. } => "holder",
            _ => "other",
        };
        self.requests.lock().unwrap().push(name.to_owned());
        let mut truth = self.truth.lock().unwrap();
        let mut answer = Answer {
            protocol: PROTOCOL,
            build: "test".into(),
            pid: 1,
            outcome: Outcome::Done,
            why: None,
            code: None,
            net: None,
            differences: Vec::new(),
            status: None,
        };
        if let Ask::Status = ask {
            let member = (!truth.away).then(|| "a".to_owned());
            answer.status = Some(Status {
                member,
                away: Some("etcd: a: connection refused".into()),
                ..Status::default()
            });
            return answer;
        }
        if let Ask::Holder { address, .. } = ask {
            let first =
                Space::with(truth.net.as_ref().unwrap(), *address).and_then(|space| space.block_of(*address));
            let owner = first.and_then(|first| truth.blocks.get(&first));
            answer.why = Some(owner.map_or("nobody".into(), |owner| format!("host host{owner}")));
            return answer;
        }
        let done =
            if truth.away { Err("etcd: no member answered".to_owned()) } else { self.serve(&mut truth, ask) };
        answer.net = truth.net.clone();
        match done {
            Ok(()) => truth.write(self.number),
            Err(why) => (answer.outcome, answer.why) = (Outcome::Failed, Some(why)),
        }
        answer
    }

    fn serve(&self, truth: &mut Truth, ask: &Ask) -> Result<(), String> {
        match ask {
            Ask::Network { want, .. } => {
                truth.net.get_or_insert_with(|| want.clone());
                for index in 0..truth.spaces().len() {
                    if let Some(first) = truth.claim(self.number, index) {
                        let own = truth.spaces()[index].own(first);
                        truth.own.entry(self.number).or_default().extend(own);
                    }
                }
                Ok(())
            }
            Ask::Block { address: Some(ip), .. } => self.get(truth, *ip),
            Ask::Block { address: None, subnet, .. } => match truth.claim(self.number, *subnet) {
                Some(_) => Ok(()),
                None => {
                    let free = truth.free_of_others(self.number, *subnet);
                    let ip = free.first().copied().ok_or("every address is leased: host0 4, host1 4")?;
                    self.get(truth, ip)
                }
            },
            Ask::Sync { .. } => {
                let leased = truth.leases(self.number);
                truth.lent.retain(|ip, (_, to)| *to != self.number || leased.contains_key(ip));
                for number in truth.own.keys().copied().collect::<Vec<_>>() {
                    truth.write(number);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Gets an address, wherever it is.
    fn get(&self, truth: &mut Truth, ip: IpAddr) -> Result<(), String> {
        let net = truth.net.clone().unwrap();
        let first = Space::with(&net, ip).and_then(|space| space.block_of(ip)).ok_or("no block")?;
        match truth.blocks.get(&first).copied() {
            None => drop(truth.blocks.insert(first, self.number)),
            Some(owner) if owner == self.number => {
                if let Some((_, to)) = truth.lent.get(&ip) {
                    return Err(format!("{ip} is in use on host{to}"));
                }
            }
            Some(owner) => {
                let is_own = truth.own.get(&owner).is_some_and(|own| own.contains(&ip));
                if let Some(holder) = truth.leases(owner).get(&ip) {
                    return Err(format!("{ip} is in use on host{owner} by container {holder}"));
                }
                if is_own || truth.lent.contains_key(&ip) {
                    return Err(format!("{ip} is in use"));
                }
                truth.lent.insert(ip, (owner, self.number));
                truth.write(owner);
            }
        }
        Ok(())
    }
}

impl Truth {
    fn spaces(&self) -> Vec<Space> {
        self.net.as_ref().map(Space::of).unwrap_or_default()
    }

    /// Claims a free block.
    fn claim(&mut self, number: usize, subnet: usize) -> Option<IpAddr> {
        let seed = self.blocks.len() as u64 * 7 + number as u64;
        let taken: Vec<IpAddr> = self.blocks.keys().copied().collect();
        let limits = self.hosts[&number].1.limits("front").unwrap();
        let space = self.spaces()[subnet];
        let own = || (!self.own.contains_key(&number)).then(|| space.pick(&taken, seed))?;
        let first = space.pick_useful(&taken, seed, &limits).or_else(own)?;
        self.blocks.insert(first, number);
        Some(first)
    }

    pub fn leases(&self, number: usize) -> BTreeMap<IpAddr, String> {
        let dir = self.hosts[&number].0.join("networks/front");
        let Ok(ips) = leases::addresses_in(&dir) else { return BTreeMap::new() };
        let read = |ip: IpAddr| Some((ip, fs::read_to_string(dir.join(ip.to_string())).ok()?));
        ips.into_iter().filter_map(read).collect()
    }

    /// What other hosts could lend.
    fn free_of_others(&self, number: usize, subnet: usize) -> Vec<IpAddr> {
        let space = self.spaces()[subnet];
        let others = self.blocks.iter().filter(|(first, owner)| **owner != number && space.is_block(**first));
        let mut free = Vec::new();
        for (first, owner) in others {
            let leased = self.leases(*owner);
            let own = self.own.get(owner).cloned().unwrap_or_default();
            let limits = self.hosts[owner].1.limits("front").unwrap();
            let is_free = |ip: &IpAddr| {
                !leased.contains_key(ip)
                    && !own.contains(ip)
                    && !self.lent.contains_key(ip)
                    && limits.gives(*ip)
            };
            free.extend(space.usable(*first).filter(is_free));
        }
        free
    }

    /// The files of a host, under the lock of its leases.
    pub fn write(&self, number: usize) {
        let Some(net) = &self.net else { return };
        let (dir, files) = &self.hosts[&number];
        let leases = dir.join("networks/front");
        fs::create_dir_all(&leases).unwrap();
        let _lock = sys::file::lock(&leases.join("lock"), 0o750).unwrap();
        let of = |wanted: fn(&(usize, usize)) -> usize| {
            self.lent.iter().filter(move |(_, pair)| wanted(pair) == number).map(|(ip, _)| *ip).collect()
        };
        let blocks = Blocks {
            v: 1,
            blocks: self
                .blocks
                .iter()
                .filter(|(_, owner)| **owner == number)
                .map(|(first, _)| *first)
                .collect(),
            lent: of(|(from, _)| *from),
            borrowed: of(|(_, to)| *to),
            own: self.own.get(&number).cloned().unwrap_or_default(),
            closed: false,
        };
        files.write_net("front", net).unwrap();
        files.write_blocks("front", &blocks).unwrap();
    }

    /// Gives the network a VXLAN id, as `overlay` does.
    pub fn make_overlay(&mut self) {
        if let Some(net) = &mut self.net {
            (net.vni, net.mtu) = (Some(cluster::VNI_FIRST), Some(1450));
        }
        self.hosts.keys().copied().collect::<Vec<_>>().into_iter().for_each(|number| self.write(number));
    }

    /// Gives a block back if nobody has an address of it.
    pub fn give_up(&mut self, first: IpAddr) {
        let Some(owner) = self.blocks.get(&first).copied() else { return };
        let net = self.net.clone().unwrap();
        let space = Space::with(&net, first).unwrap();
        let leased = self.leases(owner);
        let own = self.own.get(&owner).cloned().unwrap_or_default();
        let all: BTreeSet<IpAddr> = space.usable(first).collect();
        let in_use = |ip: &IpAddr| leased.contains_key(ip) || own.contains(ip) || self.lent.contains_key(ip);
        if !all.iter().any(in_use) {
            self.blocks.remove(&first);
            self.write(owner);
        }
    }
}
