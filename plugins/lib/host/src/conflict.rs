//! What is in the way of a piece: it is another's, or something else.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Handle;
use sys::Error;

/// Ports of a bridge that an error names; the rest are counted.
const PORTS_SHOWN: usize = 8;

/// A thing that exists and that a piece may not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Another container, which is alive, is masqueraded by this address.
    AddressInUse {
        /// The address.
        address: String,
        /// Who has it: see [`crate::Owner::label`].
        owner: String,
    },
    /// The host has a route to this address by another link.
    AddressRouted {
        /// The address.
        address: IpAddr,
        /// The link.
        link: String,
        /// Whose link it is, if it is ours: see [`crate::Owner::label`].
        owner: Option<String>,
    },
    /// A link of the bridge's name exists and is something else.
    NotABridge {
        /// The name.
        name: String,
    },
    /// The container has an interface of that name already.
    InterfaceExists {
        /// The interface.
        container: String,
        /// The host veth it was to be connected to.
        host: String,
    },
    /// The link has a queueing discipline that is not ours.
    Queued {
        /// The link.
        link: String,
        /// The discipline's kind.
        kind: String,
        /// Its number.
        handle: Handle,
    },
    /// Packets that arrive at the link meet filters that are not ours.
    Filtered {
        /// The link.
        link: String,
    },
    /// The link that is to carry a gateway address has another one that is in use.
    Gateway {
        /// The link.
        link: String,
        /// The address that was to be added.
        wanted: IpNetwork,
        /// The address that is there.
        have: IpNetwork,
        /// Who uses it: the bridge's ports.
        ports: Vec<String>,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressInUse { address, owner } => write!(
                f,
                "address {address} is that of {owner} (network, interface, container), which is alive: \
                 give the networks subnets that do not overlap"
            ),
            Self::AddressRouted { address, link, owner } => {
                write!(f, "failed to add route on host: it has a route to {address} by \"{link}\" already")?;
                match owner {
                    Some(owner) => write!(f, ", the link of {owner} (network, interface, container)"),
                    None => Ok(()),
                }
            }
            Self::NotABridge { name } => write!(f, "\"{name}\" already exists but is not a bridge"),
            Self::InterfaceExists { container, host } => {
                write!(f, "container veth name (\"{container}\") peer provided (\"{host}\") already exists")
            }
            Self::Queued { link, kind, handle } => write!(
                f,
                "{link} has a queueing discipline already, {kind} {handle}, which is not this attachment's: delete it \
                 (tc qdisc del dev {link} root), or leave its rate to whoever set it"
            ),
            Self::Filtered { link } => write!(
                f,
                "packets from {link} meet filters of another program (tc filter show dev {link} ingress), which \
                 packets with a rate would pass by: leave the rate to that program"
            ),
            Self::Gateway { link, wanted, have, ports } => {
                write!(f, "\"{link}\" already has an IP address different from {wanted}: {have}")?;
                match ports.as_slice() {
                    [] => write!(f, "; remove it, or set forceAddress"),
                    ports => {
                        let (shown, more) = ports.split_at(ports.len().min(PORTS_SHOWN));
                        write!(f, ", in use by {}", shown.join(", "))?;
                        if !more.is_empty() {
                            write!(f, " and {} more", more.len())?;
                        }
                        f.write_str("; delete these, or set forceAddress")
                    }
                }
            }
        }
    }
}

impl std::error::Error for Conflict {}

impl From<Conflict> for Error {
    fn from(reason: Conflict) -> Self {
        Self::Other(Box::new(reason))
    }
}
