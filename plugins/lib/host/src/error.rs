//! What failed, on what, and what the kernel said.

use std::fmt;
use std::io;

use ipnetwork::IpNetwork;

use crate::Mac;

/// Ports of a bridge that an error names; the rest are counted.
const PORTS_SHOWN: usize = 8;

/// `Result` with this crate's error, unless another is named.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Something the kernel refused, or did not do in time.
///
/// `{}` is one clause without the cause, which [`std::error::Error::source`] gives (so that a caller who joins
/// the chain does not repeat it); `{:#}` is the whole sentence.
#[derive(Debug)]
pub enum Error {
    /// A system call or a netlink request failed.
    Kernel {
        /// What was tried: `"create veth"`.
        op: &'static str,
        /// On what: an interface name, a route, a path.
        object: String,
        /// The kernel's own words (netlink extended acknowledgement), if it had any.
        message: Option<String>,
        /// The errno, or `InvalidData` for a malformed answer, `TimedOut` when none came.
        source: io::Error,
    },
    /// The bridge port did not forward before the deadline.
    PortState {
        /// The port's interface.
        link: String,
        /// What was seen last: an operational state, or a bridge port state when the link itself was up.
        state: String,
    },
    /// Another node has this address: duplicate address detection failed (RFC 4862, section 5.4.5), or it answered
    /// (RFC 5227, section 2.1.1).
    DuplicateAddress {
        /// The interface.
        link: String,
        /// The address.
        address: IpNetwork,
        /// The other node's Ethernet address, if it is known.
        holder: Option<Mac>,
    },
    /// Another container, which is alive, is masqueraded by this address.
    AddressInUse {
        /// The address.
        address: String,
        /// Who has it: see [`crate::Owner::label`].
        owner: String,
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
    /// The link that is to carry a gateway address has another one that is in use.
    GatewayConflict {
        /// The link.
        link: String,
        /// The address that was to be added.
        wanted: IpNetwork,
        /// The address that is there.
        have: IpNetwork,
        /// Who uses it: the bridge's ports.
        ports: Vec<String>,
    },
    /// What a larger step failed by.
    Within {
        /// The step.
        step: String,
        /// Why it failed.
        source: Box<Error>,
    },
    /// The address was still tentative at the deadline.
    TentativeAddress {
        /// The interface.
        link: String,
        /// The address.
        address: IpNetwork,
    },
}

impl Error {
    /// An error without a word from the kernel but its errno. `op` is a verb phrase, `object` what it was done to.
    pub fn new(op: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Kernel { op, object: object.into(), message: None, source: source.into() }
    }

    /// The same error as the cause of a larger step's failure.
    pub fn within(self, step: String) -> Self {
        Self::Within { step, source: Box::new(self) }
    }

    /// The errno, if one is at the bottom of this.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Kernel { source, .. } => source.raw_os_error(),
            Self::Within { source, .. } => source.errno(),
            _ => None,
        }
    }

    /// EEXIST: the thing is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// ENODEV, ENOENT, ESRCH, ENXIO or EADDRNOTAVAIL: the thing (or the link it is on) is not there.
    pub fn is_not_found(&self) -> bool {
        const ABSENT: [i32; 5] = [libc::ENODEV, libc::ENOENT, libc::ESRCH, libc::ENXIO, libc::EADDRNOTAVAIL];
        self.errno().is_some_and(|errno| ABSENT.contains(&errno))
    }

    /// EOPNOTSUPP or EAFNOSUPPORT: this kernel was built without it, or the device does not do it.
    pub fn is_not_supported(&self) -> bool {
        matches!(self.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { op, object, message, source } => {
                write!(f, "{op} {object}")?;
                if let Some(message) = message {
                    write!(f, ": {message}")?;
                }
                if f.alternate() { write!(f, ": {source}") } else { Ok(()) }
            }
            Self::PortState { link, state } => {
                write!(f, "bridge port in error state: {state} ({link})")
            }
            Self::DuplicateAddress { link, address, holder } => {
                write!(f, "address {address} on {link}: duplicate address detected: ")?;
                match holder {
                    Some(mac) => write!(f, "{mac} has it"),
                    None => f.write_str("another node on the link has it"),
                }
            }
            Self::AddressInUse { address, owner } => write!(
                f,
                "address {address} is that of {owner} (network, interface, container), which is alive: \
                 give the networks subnets that do not overlap"
            ),
            Self::NotABridge { name } => write!(f, "\"{name}\" already exists but is not a bridge"),
            Self::InterfaceExists { container, host } => {
                write!(f, "container veth name (\"{container}\") peer provided (\"{host}\") already exists")
            }
            Self::GatewayConflict { link, wanted, have, ports } => {
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
            Self::Within { step, source } => {
                f.write_str(step)?;
                if f.alternate() { write!(f, ": {source:#}") } else { Ok(()) }
            }
            Self::TentativeAddress { link, address } => {
                write!(f, "address {address} on {link} is still tentative")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel { source, .. } => Some(source),
            Self::Within { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
