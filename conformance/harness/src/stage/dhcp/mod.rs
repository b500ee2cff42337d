//! DHCP servers of others, for cases about `dhcp`: dnsmasq, Kea and ISC's, in the namespace of the
//! outside, with their own files.

mod daemon;
mod leases;
mod text;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::patience::on_this_machine;
use crate::room::Room;
use crate::{cache, ip};

pub use daemon::{ReferenceDaemon, SuiteDaemon};
pub use leases::Lease;

/// How long a server may take to start on an idle machine.
const START: Duration = Duration::from_secs(10);

/// A server's software, from Debian's packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Software {
    /// dnsmasq-base. Its shortest lease is of two minutes.
    Dnsmasq,
    /// kea-dhcp4-server and kea-dhcp6-server.
    Kea,
    /// isc-dhcp-server.
    Isc,
}

impl Software {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Dnsmasq, Self::Kea, Self::Isc];

    /// Its name, in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "kea",
            Self::Isc => "isc-dhcp-server",
        }
    }

    fn program(self, family: Family) -> Result<PathBuf> {
        let path = match (self, family) {
            (Self::Dnsmasq, _) => return Ok("dnsmasq".into()),
            (Self::Kea, Family::V4) => "usr/sbin/kea-dhcp4",
            (Self::Kea, Family::V6) => "usr/sbin/kea-dhcp6",
            (Self::Isc, _) => "usr/sbin/dhcpd",
        };
        cache::unpacked("dhcp", path)
    }
}

/// The protocol that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DHCP (RFC 2131).
    V4,
    /// DHCPv6 (RFC 8415).
    V6,
}

/// What a server gives out.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The lifetime of a lease in seconds. DHCPv6: the valid lifetime; the preferred one is as long.
    pub lease: u32,
    /// The last bytes of the first and last address of the range.
    pub range: (u8, u8),
    /// Routes of option 121: destination and next hop. With one of them, clients must not use the
    /// router (RFC 3442).
    pub routes: Vec<(&'static str, &'static str)>,
    /// Routes of option 33: destination, which has its class's length, and next hop.
    pub classful: Vec<(&'static str, &'static str)>,
    /// Whether it has an MTU, servers of names and of time, and a domain.
    pub extras: bool,
    /// DHCPv6: whether it delegates prefixes of [`PREFIXES`].
    pub prefixes: bool,
    /// IPv6: what it advertises as a router; dnsmasq alone can.
    pub router: Router,
}

/// What a server advertises as a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Router {
    /// Nothing.
    None,
    /// A prefix for autoconfiguration, and no address by DHCPv6.
    Prefix,
    /// That addresses come from DHCPv6.
    Managed,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            lease: 120,
            range: (100, 199),
            routes: vec![],
            classful: vec![],
            extras: false,
            prefixes: false,
            router: Router::None,
        }
    }
}

/// The network of every IPv4 server, without the last byte.
pub const NETWORK: &str = "198.51.100";
/// The network of every IPv6 server, without the last group.
pub const NETWORK6: &str = "2001:db8:ff:";
/// Delegated prefixes of length 64 come from this.
pub const PREFIXES: &str = "2001:db8:d000::/48";
/// The router, the server of names and the one of time.
pub const ROUTER: &str = "198.51.100.2";
/// The server of names for IPv6, of [`Offer::extras`].
pub const NAMES6: &str = "2001:db8:ff::53";
/// The group of all routers of a link, as /proc/net/igmp6 has it.
const ALL_ROUTERS: &str = "ff020000000000000000000000000002";
/// The MTU of [`Offer::extras`].
pub const MTU: u32 = 1400;
/// The domain of [`Offer::extras`].
pub const DOMAIN: &str = "dhcp.example";

/// A server in the namespace `outside` or `beyond`, on its `eth0`. It ends when it is dropped.
pub struct Server {
    namespace: &'static str,
    software: Software,
    family: Family,
    /// The table of /proc/net and the port in it by which it listens.
    socket: (&'static str, &'static str),
    is_router: bool,
    dir: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
}

impl Room {
    /// Starts a DHCP server outside; returns when it listens. Needs [`Room::outside`].
    pub fn dhcp_server(&self, software: Software, offer: &Offer) -> Result<Server> {
        Server::new(self, "outside", software, Family::V4, offer)
    }

    /// The same beyond. Needs [`Room::beyond`].
    pub fn dhcp_server_beyond(&self, software: Software, offer: &Offer) -> Result<Server> {
        Server::new(self, "beyond", software, Family::V4, offer)
    }

    /// The same for DHCPv6.
    pub fn dhcp6_server(&self, software: Software, offer: &Offer) -> Result<Server> {
        Server::new(self, "outside", software, Family::V6, offer)
    }
}

impl Server {
    fn new(
        room: &Room,
        namespace: &'static str,
        software: Software,
        family: Family,
        offer: &Offer,
    ) -> Result<Self> {
        let is_only_router = offer.router == Router::Prefix;
        let socket = match family {
            Family::V4 => ("udp", ":0043 "),
            // ICMPv6.
            Family::V6 if is_only_router => ("raw6", ":003A "),
            Family::V6 => ("udp6", ":0223 "),
        };
        let name = if is_only_router { "router" } else { software.name() };
        let dir = room.scratch(&format!("{name}-{family:?}"));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        if family == Family::V6 {
            wait_for_link_local()?;
        }
        if offer.router != Router::None {
            // The room's host is on the same wire, and stays as it is.
            fs::write("/proc/sys/net/ipv6/conf/wan0/accept_ra", "0")?;
            // Its neighbour advertisements say that it is a router. Others would end the default
            // routes through it (RFC 4861, section 7.2.5).
            let forward = || Ok(fs::write("/proc/sys/net/ipv6/conf/eth0/forwarding", "1")?);
            crate::namespace::inside(namespace, forward)?;
        }
        let args = text::arguments(software, family, offer, &dir)?;
        let mut server = Self {
            namespace,
            software,
            family,
            socket,
            is_router: offer.router != Router::None,
            dir,
            args,
            child: None,
        };
        server.start()?;
        Ok(server)
    }

    /// Starts it again after [`Server::stop`], with the leases that it had.
    pub fn start(&mut self) -> Result<()> {
        let program = self.software.program(self.family)?;
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = Command::new(&program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        if self.software == Software::Kea {
            // Paths of the machine in which it has nothing to write.
            for key in ["KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR"] {
                command.env(key, &self.dir);
            }
            command.env("LD_LIBRARY_PATH", libraries()?);
        }
        let spawn = || command.spawn().with_context(|| format!("start {}", program.display()));
        self.child = Some(crate::namespace::inside(self.namespace, spawn)?);
        self.wait_until_it_listens()
    }

    /// Kills it. Its leases stay in its files.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }

    /// Puts another server in its place, at the same address and without leases.
    pub fn replace(&mut self, offer: &Offer) -> Result<()> {
        self.stop();
        self.args = text::arguments(self.software, self.family, offer, &self.dir)?;
        self.start()
    }

    /// The leases that have not expired, by its files.
    pub fn leases(&self) -> Result<Vec<Lease>> {
        leases::current(self.software, &text::lease_file(&self.dir))
    }

    /// The addresses of [`Server::leases`], in order.
    pub fn addresses(&self) -> Result<Vec<String>> {
        Ok(self.leases()?.into_iter().map(|lease| lease.address.to_string()).collect())
    }

    /// The file of its leases.
    pub fn text(&self) -> Result<String> {
        let path = text::lease_file(&self.dir);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Every kind has a UDP socket on the protocol's port, and some a packet socket too.
    fn wait_until_it_listens(&mut self) -> Result<()> {
        let deadline = Instant::now() + on_this_machine(START);
        let name = self.software.name();
        let (table, port) = self.socket;
        loop {
            let child = self.child.as_mut().context("it was not started")?;
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended: {status}: {}", self.log());
            }
            let read = |table: &str| fs::read_to_string(format!("/proc/{}/net/{table}", child.id()));
            // A router hears questions once it is in the group of all routers.
            let hears = !self.is_router || read("igmp6")?.contains(ALL_ROUTERS);
            if hears && read(table)?.contains(port) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{name} does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// No socket can be bound to the link-local address before duplicate address detection is done.
fn wait_for_link_local() -> Result<()> {
    let deadline = Instant::now() + on_this_machine(START);
    let show = ["-6", "addr", "show", "dev", "eth0", "scope", "link", "-tentative"];
    while ip::rows(Some("outside"), &show)?.is_empty() {
        ensure!(Instant::now() < deadline, "eth0 of outside has no link-local address");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The directories of the unpacked shared libraries.
fn libraries() -> Result<String> {
    let root = cache::directory("dhcp")?.join("usr/lib");
    let entries = fs::read_dir(&root).with_context(|| format!("list {}", root.display()))?;
    let dirs = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    Ok(dirs.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":"))
}
