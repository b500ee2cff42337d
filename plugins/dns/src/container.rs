//! Mode [`crate::record::Mode::Netns`]: sockets on a loopback address in the container's
//! network namespace, and rules that redirect port 53 to them. The responder holds the sockets.
//! They keep the namespace alive, so it closes them with the attachment.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

use cni::Error;
use host::Owner;
use host::rules::resolver::{self, Inside};
use netlink::{LinkChange, Netlink};
use nft::Nft;
use sys::NetNs;

use crate::control::ControlRequest;
use crate::record::{Key, Namespace};

/// The first address, and how many there are: a container on several networks uses one for
/// each.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const ADDRESSES: u8 = 32;

/// Sockets in a container's network namespace.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    nft: Nft,
    label: String,
    /// The name server of the container.
    pub address: Ipv4Addr,
    /// The namespace.
    pub namespace: Namespace,
}

/// Opens the namespace at the path, if it is the recorded one. A process id may be reused, and
/// with it the path `/proc/<pid>/ns/net`.
///
/// # Errors
/// The kernel refused.
pub fn namespace(path: &str, recorded: Option<Namespace>) -> Result<Option<NetNs>, Error> {
    let Some(netns) = NetNs::open_if_there(path)? else { return Ok(None) };
    let Some(recorded) = recorded else { return Ok(Some(netns)) };
    let now = Namespace { inode: netns.inode()?, cookie: recorded.cookie };
    if now != recorded || recorded.cookie.is_some() && netns.enter(cookie_here)? != recorded.cookie {
        return Ok(None);
    }
    Ok(Some(netns))
}

/// The cookie of this thread's namespace. Any socket has it; this one affects nothing there.
fn cookie_here() -> Option<u64> {
    UnixDatagram::unbound().ok().and_then(|socket| NetNs::cookie_of_socket(socket.as_fd()))
}

impl Sockets {
    /// Opens the sockets, and sets the container's loopback up; it stays up.
    ///
    /// # Errors
    /// The namespace could not be entered, or the kernel refused.
    pub fn open(netns: &NetNs, network: &str, key: &Key) -> Result<Self, Error> {
        let (label, inode) = (key.on(network).label(), netns.inode()?);
        netns.enter(|| Self::open_here(label, inode))?
    }

    fn open_here(label: String, inode: u64) -> Result<Self, Error> {
        let netlink = Netlink::open()?;
        if let Some(lo) = netlink.link_by_name("lo")?.filter(|lo| !lo.up()) {
            netlink.set_link(lo.index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        }
        let nft = host::rules::open()?;
        let taken = resolver::taken_inside(&nft, &label)?;
        let last = FIRST.octets()[3];
        let mut free = (last..last + ADDRESSES).map(|last| Ipv4Addr::new(127, 0, 0, last));
        let address = free.find(|address| !taken.contains(&(*address).into())).ok_or_else(|| {
            Error::internal(format!(
                "no address is free: the container has {ADDRESSES} networks with a resolver"
            ))
        })?;
        let fail = |error| sys::Error::new("listen in the container at", address.to_string(), error);
        let udp = UdpSocket::bind((address, 0)).map_err(fail)?;
        let tcp = TcpListener::bind((address, 0)).map_err(fail)?;
        let namespace = Namespace { inode, cookie: NetNs::cookie_of_socket(udp.as_fd()) };
        Ok(Self { udp, tcp, nft, label, address, namespace })
    }

    /// Passes the sockets to the responder by `call`, and redirects port 53. The attachment
    /// is recorded already, so a responder that is started by this opens sockets of its own
    /// first, which these replace.
    ///
    /// # Errors
    /// The responder or the kernel refused.
    pub fn hand_over(
        self,
        network: &str,
        key: &Key,
        call: impl FnOnce(&ControlRequest, &[BorrowedFd<'_>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let adopt = ControlRequest::Adopt { network: network.to_owned(), key: key.clone() };
        call(&adopt, &[self.udp.as_fd(), self.tcp.as_fd()])?;
        self.redirect().map(drop)
    }

    /// Redirects port 53 of the container to the sockets, and returns them.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn redirect(self) -> Result<(UdpSocket, TcpListener), Error> {
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.map(|address| address.port()).map_err(|error| sys::Error::new("name", "a socket", error))
        };
        let ports = [port(self.udp.local_addr())?, port(self.tcp.local_addr())?];
        Inside { label: &self.label, address: self.address, ports }.add(&self.nft)?;
        Ok((self.udp, self.tcp))
    }
}

/// Removes the rules.
///
/// # Errors
/// The kernel refused. A namespace that is gone has no rules.
pub fn remove_rules(path: &str, recorded: Option<Namespace>, owner: &Owner) -> Result<(), Error> {
    let Some(netns) = namespace(path, recorded)? else { return Ok(()) };
    let nft = Nft::open_in(&netns)?;
    match resolver::remove_inside(&nft, &owner.label()) {
        Err(error) if !host::rules::is_without_nf_tables(&error) => Err(error.into()),
        _ => Ok(()),
    }
}
