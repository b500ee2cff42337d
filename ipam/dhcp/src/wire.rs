//! The link in the container's namespace, and sockets on it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use netlink::{Link, LinkChange, Mac, Netlink};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn6, bind, recv, send, setsockopt, socket, sockopt,
};
use sys::{BackgroundClose, NetNs, NetNsError, frame as packet};

use crate::frame::ETH_P_IP;
use crate::record::Namespace;
use crate::v6::advert::{ADVERTISEMENT, ETH_P_IPV6};

/// Longer than any frame or datagram with a message.
pub const DATA_MAX: usize = 2048;
/// Ports of DHCPv6, and all its servers and relays (RFC 8415, section 7).
const PORT_OF_CLIENTS: u16 = 546;
const PORT_OF_SERVERS: u16 = 547;
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Where client's messages are in frames, for the kernel's filter.
const CLIENT_PORT: u32 = 68;

/// A namespace with the link of an attachment.
pub struct Place {
    /// The namespace.
    pub netns: NetNs,
    /// A netlink socket in it.
    pub netlink: Netlink,
    /// The link.
    pub link: Link,
}

impl Place {
    /// The link of this name in the namespace at a path.
    ///
    /// # Errors
    /// There is no such namespace or link.
    pub fn of_name(path: &Path, ifname: &str) -> Result<Self, Missing> {
        let netns = NetNs::open(path).map_err(Missing::NetNs)?;
        let netlink = Netlink::open_in(&netns).map_err(Missing::Kernel)?;
        let link = netlink.link_by_name(ifname).map_err(Missing::Kernel)?;
        let link = link.ok_or_else(|| Missing::Link(ifname.to_owned()))?;
        Ok(Self { netns, netlink, link })
    }

    /// The link of this index in a recorded namespace. The link may have got another name.
    ///
    /// # Errors
    /// There is no such namespace or link; another namespace may be at the path.
    pub fn of_record(path: &Path, namespace: Namespace, index: u32) -> Result<Self, Missing> {
        let netns = NetNs::open(path).map_err(Missing::NetNs)?;
        if !namespace.is(&netns) {
            return Err(Missing::OtherNetNs);
        }
        let netlink = Netlink::open_in(&netns).map_err(Missing::Kernel)?;
        let link = netlink.link_by_index(index).map_err(Missing::Kernel)?;
        let link = link.ok_or_else(|| Missing::Link(format!("with index {index}")))?;
        Ok(Self { netns, netlink, link })
    }

    /// Sets the link up.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_up(&self) -> sys::Result<()> {
        if self.link.up() {
            return Ok(());
        }
        self.netlink.set_link(self.link.index, &LinkChange { up: Some(true), ..LinkChange::default() })
    }

    /// The link's Ethernet address.
    ///
    /// # Errors
    /// It is no Ethernet link.
    pub fn mac(&self) -> sys::Result<Mac> {
        self.link.mac.ok_or_else(|| {
            let cause = io::Error::new(io::ErrorKind::Unsupported, "it has no Ethernet address");
            sys::Error::new("use DHCP on", self.link.name.clone(), cause)
        })
    }

    /// A packet socket on the link.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn wire(&self) -> sys::Result<Wire> {
        self.wire_of(|| packet::open_filtered(self.link.index, ETH_P_IP, CLIENT_PORT))
    }

    /// A packet socket that receives router advertisements on the link.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn advertisements(&self) -> sys::Result<Wire> {
        self.wire_of(|| packet::open_icmpv6(self.link.index, ETH_P_IPV6, ADVERTISEMENT))
    }

    fn wire_of(&self, open: impl FnOnce() -> io::Result<OwnedFd>) -> sys::Result<Wire> {
        let socket = self
            .netns
            .enter(open)?
            .map_err(|cause| sys::Error::new("open a packet socket on", self.link.name.clone(), cause))?;
        Ok(Wire { _close: BackgroundClose::of(socket.as_fd()), socket })
    }

    /// The link's own address, which is usable; `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn link_local(&self) -> sys::Result<Option<Ipv6Addr>> {
        let usable = self.netlink.usable_addresses(self.link.index)?;
        Ok(usable.into_iter().find_map(|address| match address {
            IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
            _ => None,
        }))
    }

    /// The client's port of DHCPv6 at the link-local address, which has to be usable.
    ///
    /// # Errors
    /// There is no such address, or the kernel refused.
    pub fn port(&self) -> sys::Result<Port> {
        let fail = |cause| sys::Error::new("use DHCPv6 on", self.link.name.clone(), cause);
        let none = || fail(io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no link-local address"));
        let address =
            SocketAddrV6::new(self.link_local()?.ok_or_else(none)?, PORT_OF_CLIENTS, 0, self.link.index);
        let open = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
            // The daemon may have an exchange in progress.
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            bind(socket.as_raw_fd(), &SockaddrIn6::from(address))?;
            Ok(socket)
        };
        let socket = self.netns.enter(open)?.map_err(|errno| fail(errno.into()))?;
        Ok(Port { socket: socket.into(), index: self.link.index })
    }
}

/// Why a link is not there.
#[derive(Debug)]
pub enum Missing {
    /// The namespace.
    NetNs(NetNsError),
    /// Another namespace is at its path.
    OtherNetNs,
    /// The link.
    Link(String),
    /// The kernel refused.
    Kernel(sys::Error),
}

impl Missing {
    /// Whether namespace or link are known to be gone.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NetNs(NetNsError::Gone { .. } | NetNsError::NotANetNs { .. }) => true,
            Self::OtherNetNs | Self::Link(_) => true,
            Self::NetNs(NetNsError::Io { .. }) | Self::Kernel(_) => false,
        }
    }

    /// The plugin's error.
    pub fn into_cni_error(self) -> cni::Error {
        match self {
            Self::NetNs(error) => error.into(),
            Self::OtherNetNs => cni::Error::internal("another network namespace is at the path"),
            Self::Link(name) => cni::Error::internal(format!("error looking up {name:?}: Link not found")),
            Self::Kernel(error) => error.into(),
        }
    }
}

/// Sends and receives frames.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Closing a packet socket waits for an RCU grace period.
    _close: BackgroundClose,
}

impl Wire {
    /// Sends a frame. One that cannot leave now is lost, as any frame may be.
    ///
    /// # Errors
    /// The link is gone, or the kernel refused.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match self.send_once(frame) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS)) => Ok(()),
            done => done,
        }
    }

    /// As [`Wire::send`], for a frame that is not sent again: that there is no room for it is an
    /// error.
    ///
    /// # Errors
    /// There is no room, the link is gone, or the kernel refused.
    pub fn send_once(&self, frame: &[u8]) -> io::Result<()> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT) {
            // On a link that is down, no attempt succeeds.
            Ok(_) | Err(Errno::ENETDOWN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The length of the next frame; `None` when none is queued.
    ///
    /// # Errors
    /// The link is gone.
    pub fn receive(&self, buffer: &mut [u8; DATA_MAX]) -> io::Result<Option<usize>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => Ok(Some(length)),
            // The link was set down. It may come up again.
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sends datagrams to the servers of DHCPv6 on a link, and receives those of machines on it.
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    index: u32,
}

impl Port {
    /// Sends a message. One that cannot leave now is lost, as any datagram may be.
    ///
    /// # Errors
    /// The link is gone, or the kernel refused.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        let servers = SocketAddrV6::new(SERVERS, PORT_OF_SERVERS, 0, self.index);
        match self.socket.send_to(message, servers) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::ENOBUFS | libc::ENETDOWN | libc::ENETUNREACH)
                ) =>
            {
                Ok(())
            }
            sent => sent.map(drop),
        }
    }

    /// The length of the next message; `None` when none is queued. One of a sender that is not on
    /// the link is empty.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn receive(&self, buffer: &mut [u8; DATA_MAX]) -> io::Result<Option<usize>> {
        match self.socket.recv_from(buffer) {
            Ok((length, from)) => {
                let is_on_link = matches!(from.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
                Ok(Some(if is_on_link { length } else { 0 }))
            }
            // An error of an earlier datagram, too: it is sent again.
            Err(_) => Ok(None),
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
