//! Mode [`Mode::Netns`]: sockets in the container's own namespace, on an address of its loopback, and the rules that
//! lead port 53 there. The responder has the sockets; it keeps the namespace alive by them, so they end with the
//! attachment.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use cni::Error;
use host::netlink::{LinkChange, Netlink};
use host::nft::Nft;
use host::rules::resolver::{self, Inside};
use host::{NetNs, NetNsError, Owner};

use crate::control::Ask;
use crate::record::{Attachment, Key, Mode, Place};
use crate::responder::Responder;

/// The first address that is asked, and how many there are: a container on several networks asks one for each.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const ADDRESSES: u8 = 32;

/// Sockets in a container's namespace.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
    nft: Nft,
    label: String,
    /// What the container asks.
    pub address: Ipv4Addr,
}

impl Sockets {
    /// Opens them. The loopback is brought up; it is the container's own, and stays so.
    ///
    /// # Errors
    /// The namespace could not be entered, or the kernel refused.
    pub fn open(netns: &NetNs, attachment: &Attachment) -> Result<Self, Error> {
        let label = label(attachment);
        netns.enter(|| Self::open_here(label))?
    }

    fn open_here(label: String) -> Result<Self, Error> {
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
                "the container has {ADDRESSES} networks with a resolver: no address is free"
            ))
        })?;
        let fail = |error| host::Error::new("listen in the container at", address.to_string(), error);
        let udp = UdpSocket::bind((address, 0)).map_err(fail)?;
        let tcp = TcpListener::bind((address, 0)).map_err(fail)?;
        Ok(Self { udp, tcp, nft, label, address })
    }

    /// Leads the container there, and hands the sockets over by `ask`. The attachment is recorded already.
    ///
    /// # Errors
    /// The kernel refused, or the responder.
    pub fn hand_over<T>(
        self,
        attachment: &Attachment,
        ask: impl FnOnce(&Ask, &[BorrowedFd<'_>]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let port = |address: std::io::Result<std::net::SocketAddr>| {
            address.map(|address| address.port()).map_err(|error| host::Error::new("name", "a socket", error))
        };
        let ports = [port(self.udp.local_addr())?, port(self.tcp.local_addr())?];
        Inside { label: &self.label, address: self.address, ports }.add(&self.nft)?;
        // It may have replaced rules of before.
        self.nft.close_in_background();
        let adopt = Ask::Adopt { network: attachment.network.clone(), key: attachment.key.clone() };
        ask(&adopt, &[self.udp.as_fd(), self.tcp.as_fd()])
    }
}

/// Takes the rules back; gives the socket that they were taken back by, whose end takes time.
///
/// # Errors
/// The kernel refused. A namespace that is gone has no rules.
pub fn clear(netns: &str, owner: &Owner) -> Result<Option<Nft>, Error> {
    let netns = match NetNs::open(netns) {
        Ok(netns) => netns,
        Err(NetNsError::Gone { .. } | NetNsError::NotANetNs { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let nft = Nft::open_in(&netns)?;
    match resolver::remove_inside(&nft, &owner.label()) {
        Err(error) if !host::rules::is_without_nf_tables(&error) => Err(error.into()),
        _ => Ok(Some(nft)),
    }
}

/// Gives a responder that was started anew the sockets of every container that it knows nothing but the record of,
/// except that of the caller, who has sockets for it. What is in the way of one is said in the log: the next CHECK of
/// that one tells it to the runtime.
pub fn restore(place: &Place, responder: &mut Responder<'_>, except: &Key) {
    let networks = place.networks().unwrap_or_default();
    for network in networks.iter().filter(|network| network.mode == Mode::Netns) {
        let known = place.scan_network(&network.name).unwrap_or_default();
        for attachment in known.attachments.into_iter().filter(|attachment| attachment.key != *except) {
            let Some(netns) = attachment.netns.as_deref().and_then(|path| NetNs::open(path).ok()) else {
                continue;
            };
            let restored = Sockets::open(&netns, &attachment).and_then(|sockets| {
                sockets.hand_over(&attachment, |ask, fds| responder.ask_if_there(ask, fds))
            });
            if let Err(error) = restored {
                eprintln!("dns: container {} has no resolver: {}", attachment.key.container, error.msg);
            }
        }
    }
}

fn label(attachment: &Attachment) -> String {
    owner(attachment).label()
}

fn owner(attachment: &Attachment) -> Owner {
    Owner {
        network: attachment.network.clone(),
        container_id: attachment.key.container.clone(),
        ifname: attachment.key.ifname.clone(),
    }
}
