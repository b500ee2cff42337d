//! The kernel's view: the links of this host, and those in every network namespace that is alive.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::num::NonZero;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use netlink::{Address, Link, Netlink};
use sys::{NetNs, NetNsError};

use crate::files;
use crate::output::Note;

use super::mounts::namespace_mounts;
use super::processes::Processes;

/// The longest list of mounts that is read, in bytes.
pub(super) const MOUNTS_MAX: u64 = 64 * 1024 * 1024;
/// The number of threads that look into namespaces.
const THREADS_MAX: usize = 4;
/// How many processes of a namespace are tried before it counts as one that cannot be entered.
const TRIES: usize = 3;

/// The identity of a namespace: the device and the inode of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId {
    /// The device of nsfs.
    pub device: u64,
    /// The inode, which is reused once the namespace is gone.
    pub inode: u64,
}

/// A network namespace other than this host's.
#[derive(Clone, Debug, Default)]
pub struct Namespace {
    /// Its identity; none if it is only known as the other end of a link of this host.
    pub id: Option<NamespaceId>,
    /// The host's number for it.
    pub number: Option<i32>,
    /// Its number for the host.
    pub host_number: Option<i32>,
    /// Paths that lead to it: its mounts first, then those of records.
    pub paths: Vec<PathBuf>,
    /// The processes in it.
    pub pids: Vec<u32>,
    /// Its links.
    pub links: Vec<Link>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Why it could not be looked at.
    pub fault: Option<String>,
}

/// This host's own network namespace.
#[derive(Debug, Default)]
pub struct Host {
    /// Its identity.
    pub id: Option<NamespaceId>,
    /// Its links.
    pub links: Vec<Link>,
    /// Its addresses.
    pub addresses: Vec<Address>,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the namespace with this position.
    At(usize),
    /// To this host's own.
    Host,
    /// To no namespace.
    Nowhere,
    /// It cannot be looked at.
    Unknown,
}

/// The kernel's view.
#[derive(Debug, Default)]
pub struct Kernel {
    /// This host.
    pub host: Host,
    /// The other namespaces.
    pub namespaces: Vec<Namespace>,
    by_id: HashMap<NamespaceId, usize>,
    by_number: HashMap<i32, usize>,
    host_by_index: HashMap<u32, usize>,
    host_by_peer: HashMap<(i32, u32), usize>,
}

impl Kernel {
    /// Looks at this host and into every namespace of a process, a mount, one of these paths, or the
    /// other end of a link of this host.
    pub fn read(processes: &Processes, paths: &[PathBuf], notes: &mut Vec<Note>) -> Self {
        let mut kernel = Self::default();
        let Some((netlink, home)) = kernel.read_host(notes) else { return kernel };
        kernel.add_mounts(notes);
        for (pid, process) in &processes.by_pid {
            if let Some(at) = kernel.at(process.namespace) {
                kernel.namespaces[at].pids.push(*pid);
            }
        }
        for path in paths {
            kernel.add_path(path);
        }
        look_into(&home, &mut kernel.namespaces);
        for (at, namespace) in kernel.namespaces.iter_mut().enumerate() {
            namespace.pids.sort_unstable();
            kernel.by_number.extend(namespace.number.map(|number| (number, at)));
        }
        kernel.add_numbered(&netlink, notes);
        kernel
    }

    fn read_host(&mut self, notes: &mut Vec<Note>) -> Option<(Netlink, NetNs)> {
        let read = || -> sys::Result<_> {
            let home = NetNs::current()?;
            let (device, inode) = home.identity()?;
            let netlink = Netlink::open()?;
            let (links, addresses) = (netlink.links()?, netlink.addresses(None)?);
            Ok((Host { id: Some(NamespaceId { device, inode }), links, addresses }, netlink, home))
        };
        match read() {
            Ok((host, netlink, home)) => {
                self.set_host(host);
                Some((netlink, home))
            }
            Err(error) => {
                notes.push(Note::new("kernel", format!("{error:#}")));
                None
            }
        }
    }

    /// Sets the host, and finds its links by index and by the other end.
    pub(super) fn set_host(&mut self, host: Host) {
        self.host_by_index = host.links.iter().enumerate().map(|(at, link)| (link.index, at)).collect();
        let peer = |(at, link): (usize, &Link)| Some(((link.peer_netns_id?, link.peer_index?), at));
        self.host_by_peer = host.links.iter().enumerate().filter_map(peer).collect();
        self.host = host;
    }

    /// The position of a namespace, which is added if it is new; `None` for this host's own.
    fn at(&mut self, id: NamespaceId) -> Option<usize> {
        if self.host.id == Some(id) {
            return None;
        }
        let next = self.namespaces.len();
        let at = *self.by_id.entry(id).or_insert(next);
        if at == next {
            self.namespaces.push(Namespace { id: Some(id), ..Namespace::default() });
        }
        Some(at)
    }

    fn add_mounts(&mut self, notes: &mut Vec<Note>) {
        let path = Path::new("/proc/self/mountinfo");
        match files::read(path, MOUNTS_MAX) {
            Ok(text) => {
                for mount in namespace_mounts(&String::from_utf8_lossy(&text)) {
                    if let Some(at) = self.at(mount.id) {
                        self.namespaces[at].paths.push(mount.path);
                    }
                }
            }
            Err(error) => notes.push(Note::about("mounts", path, format!("read: {error}"))),
        }
    }

    /// Adds the namespace that a path leads to.
    fn add_path(&mut self, path: &Path) {
        if let Some(id) = self.namespace_at(path).ok().flatten()
            && let Some(at) = self.at(id)
        {
            self.namespaces[at].paths.push(path.to_owned());
        }
    }

    /// Looks also into the namespaces at these paths. One that was known by its number alone has a
    /// path now.
    pub(super) fn deepen(&mut self, paths: &[PathBuf], notes: &mut Vec<Note>) {
        let home = match NetNs::current() {
            Ok(home) => home,
            Err(error) => return notes.push(Note::new("kernel", format!("{error:#}"))),
        };
        let mut more = Self { host: Host { id: self.host.id, ..Host::default() }, ..Self::default() };
        paths.iter().for_each(|path| more.add_path(path));
        look_into(&home, &mut more.namespaces);
        for namespace in more.namespaces {
            match namespace.number.and_then(|number| self.by_number.get(&number)) {
                Some(&at) => {
                    self.by_id.extend(namespace.id.map(|id| (id, at)));
                    self.namespaces[at] = namespace;
                }
                None => self.add(namespace),
            }
        }
    }

    /// The identities of the namespaces that were found, and of this host's own.
    pub(super) fn known(&self) -> impl Iterator<Item = NamespaceId> + '_ {
        self.by_id.keys().copied().chain(self.host.id)
    }

    /// Adds the namespaces that only links of this host lead to: a descriptor holds them.
    fn add_numbered(&mut self, netlink: &Netlink, notes: &mut Vec<Note>) {
        let numbers = match netlink.netns_ids() {
            Ok(numbers) => numbers,
            Err(error) => return notes.push(Note::new("kernel", format!("{error:#}"))),
        };
        for number in numbers {
            if number < 0 || self.by_number.contains_key(&number) {
                continue;
            }
            let read = netlink.links_in(number).and_then(|links| Ok((links, netlink.addresses_in(number)?)));
            // One that has ended since is no namespace any more.
            if let Ok((links, addresses)) = read {
                let number = Some(number);
                self.add(Namespace { number, links, addresses, ..Namespace::default() });
            }
        }
    }

    /// Adds a namespace that was looked at.
    pub(super) fn add(&mut self, namespace: Namespace) {
        let at = self.namespaces.len();
        self.by_number.extend(namespace.number.map(|number| (number, at)));
        self.by_id.extend(namespace.id.map(|id| (id, at)));
        self.namespaces.push(namespace);
    }

    /// Where a path leads. The namespace is compared by device and inode, not by name.
    pub fn place(&self, path: &Path) -> Place {
        match self.namespace_at(path) {
            Ok(Some(id)) if self.host.id == Some(id) => Place::Host,
            Ok(Some(id)) => self.by_id.get(&id).map_or(Place::Unknown, |at| Place::At(*at)),
            Ok(None) => Place::Nowhere,
            Err(_) => Place::Unknown,
        }
    }

    /// The namespace file at a path; `None` if there is no file, or another kind of file.
    fn namespace_at(&self, path: &Path) -> Result<Option<NamespaceId>, ErrorKind> {
        match fs::metadata(path) {
            Ok(meta) => {
                let id = NamespaceId { device: meta.dev(), inode: meta.ino() };
                let is_one = self.host.id.is_some_and(|host| host.device == id.device);
                Ok(is_one.then_some(id))
            }
            // ESRCH: the process has ended.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Ok(None),
                other => Err(other),
            },
        }
    }

    /// The position of the namespace with this identity.
    pub fn position(&self, id: NamespaceId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The link of this host with this index.
    pub fn host_link(&self, index: u32) -> Option<&Link> {
        self.host_by_index.get(&index).and_then(|at| self.host.links.get(*at))
    }

    /// The link of this host that leads to a link of a namespace: the other end of a veth, or the
    /// parent. Found by index and namespace, whatever their names.
    pub fn host_end(&self, at: usize, link: &Link) -> Option<&Link> {
        let namespace = self.namespaces.get(at)?;
        match (link.peer_netns_id, namespace.host_number) {
            (Some(number), Some(host)) if number == host => self.host_link(link.peer_index?),
            _ => {
                let host = self.host_by_peer.get(&(namespace.number?, link.index))?;
                self.host.links.get(*host)
            }
        }
    }

    /// The link of a namespace that is the other end of a link of this host, and the position of the
    /// namespace.
    pub fn container_end(&self, host: &Link) -> Option<(usize, &Link)> {
        let at = *self.by_number.get(&host.peer_netns_id?)?;
        let index = host.peer_index?;
        let links = &self.namespaces.get(at)?.links;
        links.iter().find(|link| link.index == index).map(|link| (at, link))
    }
}

impl Namespace {
    /// A path that leads to it.
    pub fn path(&self) -> Option<PathBuf> {
        self.candidates().next()
    }

    fn candidates(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let by_process = self.pids.iter().take(TRIES).map(|pid| format!("/proc/{pid}/ns/net").into());
        self.paths.iter().cloned().chain(by_process)
    }

    /// Opens it; `None` if it has ended. A path that leads elsewhere by now is not entered.
    ///
    /// # Errors
    /// No path that is there could be opened.
    pub fn open(&self) -> Result<Option<NetNs>, String> {
        let mut fault = None;
        for path in self.candidates() {
            let identified = NetNs::open(&path).map(|netns| (netns.identity(), netns));
            match identified {
                Ok((Ok((device, inode)), netns)) if self.id == Some(NamespaceId { device, inode }) => {
                    return Ok(Some(netns));
                }
                Ok((Ok(_), _)) | Err(NetNsError::Gone { .. }) => {}
                Ok((Err(error), _)) => fault = Some(format!("{error:#}")),
                Err(error) => fault = Some(error.to_string()),
            }
        }
        fault.map_or(Ok(None), Err)
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, link: &Link) -> impl Iterator<Item = &Address> + '_ {
        let index = link.index;
        self.addresses.iter().filter(move |address| address.index == index)
    }

    fn look(&mut self, host: &Netlink, home: &NetNs) -> Result<(), String> {
        let fault = |error: sys::Error| format!("{error:#}");
        let Some(netns) = self.open()? else { return Ok(()) };
        self.number = host.netns_id(netns.as_fd()).map_err(fault)?;
        let inside = Netlink::open_in(&netns).map_err(fault)?;
        self.links = inside.links().map_err(fault)?;
        self.addresses = inside.addresses(None).map_err(fault)?;
        if self.links.iter().any(|link| link.peer_netns_id.is_some()) {
            self.host_number = inside.netns_id(home.as_fd()).map_err(fault)?;
        }
        Ok(())
    }
}

/// Looks into the namespaces, each from a thread that is there for it.
fn look_into(home: &NetNs, namespaces: &mut [Namespace]) {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let share = namespaces.len().div_ceil(threads).max(1);
    namespaces.iter_mut().for_each(|namespace| namespace.fault = Some("no thread could look at it".into()));
    thread::scope(|scope| {
        for namespaces in namespaces.chunks_mut(share) {
            let look = move || match Netlink::open() {
                Ok(host) => namespaces
                    .iter_mut()
                    .for_each(|namespace| namespace.fault = namespace.look(&host, home).err()),
                Err(error) => {
                    namespaces.iter_mut().for_each(|namespace| namespace.fault = Some(format!("{error:#}")))
                }
            };
            // Without a thread the fault stays.
            let _ = thread::Builder::new().spawn_scoped(scope, look);
        }
    });
}
