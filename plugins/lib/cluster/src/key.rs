//! The keys of records in etcd, below `<prefix>/1/`.

use std::fmt;
use std::net::IpAddr;

use crate::left_out::Fault;
use crate::{KEY_MAX, VNI_FIRST, VNI_LAST};

/// The longest name of a network or container, in bytes: names are parts of the names of files.
pub const NAME_MAX: usize = 200;
/// Hex digits of a host's id.
const HOST_DIGITS: usize = 16;
/// In the place of an address that was not asked for.
const ANY: &str = "any";

/// Names an attachment of a network on a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The host's id, 16 hex digits.
    pub host: String,
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

/// A key, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `meta`: see [`crate::record::Meta`].
    Meta,
    /// `host/<host>`: see [`crate::record::Host`].
    Host(String),
    /// `alive/<host>`: see [`crate::record::Alive`].
    Alive(String),
    /// `silent/<host>`: see [`crate::record::Silent`].
    Silent(String),
    /// `grace/<host>`: see [`crate::record::Grace`].
    Grace(String),
    /// `net/<network>`: see [`crate::record::Net`].
    Net(String),
    /// `vni/<id>`: see [`crate::record::Vni`].
    Vni(u32),
    /// `blk/<network>/<first address>`: see [`crate::record::Block`].
    Block {
        /// The network's name.
        network: String,
        /// The block's first address.
        first: IpAddr,
    },
    /// `lent/<network>/<address>`: see [`crate::record::Lent`].
    Lent {
        /// The network's name.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// `own/<network>/<host>`: see [`crate::record::Own`].
    Own {
        /// The network's name.
        network: String,
        /// The host's id.
        host: String,
    },
    /// `ask/<network>/<address or any>/<host>`: see [`crate::record::Ask`].
    Ask {
        /// The network's name.
        network: String,
        /// The address; `None` is `any`.
        address: Option<IpAddr>,
        /// Who asks.
        host: String,
    },
    /// `ep/<network>/<host>/<container>@<ifname>`: see [`crate::record::EndpointRecord`].
    Endpoint(Endpoint),
}

/// What all keys of a cluster begin with. The range of keys that begin with a text ends before
/// [`after`] it.
pub fn root(prefix: &str) -> String {
    format!("{prefix}/1/")
}

/// The first key after all that begin with a text, which is not empty and ends in ASCII.
pub fn after(text: &str) -> String {
    let mut end = text.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(u32::from(last) + 1).unwrap_or(char::MAX));
    }
    end
}

/// Whether a text is a host's id: 16 hex digits in lower case.
pub fn is_host(text: &str) -> bool {
    text.len() == HOST_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a text can be the name of a network or container here: CNI's rule, and a bound.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && cni::is_identifier(text)
}

impl Key {
    /// Reads a key of etcd. Whoever can write one may write anything: names and addresses are
    /// accepted in their one spelling only.
    ///
    /// # Errors
    /// It is too long, outside the prefix, of an unknown kind, or has an invalid part.
    pub fn parse(text: &[u8], prefix: &str) -> Result<Self, Fault> {
        if text.len() > KEY_MAX {
            return Err(Fault::KeyTooLong);
        }
        let text = std::str::from_utf8(text).map_err(|_| Fault::Key("it is not UTF-8"))?;
        let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix("/1/"));
        let rest = rest.ok_or(Fault::Key("it is outside the prefix"))?;
        let parts: Vec<&str> = rest.splitn(5, '/').collect();
        Ok(match *parts {
            ["meta"] => Self::Meta,
            ["host", id] => Self::Host(host(id)?),
            ["alive", id] => Self::Alive(host(id)?),
            ["silent", id] => Self::Silent(host(id)?),
            ["grace", id] => Self::Grace(host(id)?),
            ["net", network] => Self::Net(name(network)?),
            ["vni", id] => Self::Vni(vni(id)?),
            ["blk", network, first] => Self::Block { network: name(network)?, first: address(first)? },
            ["lent", network, lent] => Self::Lent { network: name(network)?, address: address(lent)? },
            ["own", network, id] => Self::Own { network: name(network)?, host: host(id)? },
            ["ask", network, asked, id] => Self::Ask {
                network: name(network)?,
                address: if asked == ANY { None } else { Some(address(asked)?) },
                host: host(id)?,
            },
            ["ep", network, id, attachment] => {
                let network = name(network)?;
                let (container, ifname) = Endpoint::split(attachment)
                    .ok_or(Fault::Key("it does not end in a container's id, @ and an interface's name"))?;
                Self::Endpoint(Endpoint { network, host: host(id)?, container, ifname })
            }
            _ => return Err(Fault::UnknownKind),
        })
    }

    /// The key in etcd, as [`Key::parse`] reads it.
    pub fn path(&self, prefix: &str) -> String {
        format!("{}{self}", root(prefix))
    }

    /// The network that the record belongs to.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::Net(network)
            | Self::Block { network, .. }
            | Self::Lent { network, .. }
            | Self::Own { network, .. }
            | Self::Ask { network, .. }
            | Self::Endpoint(Endpoint { network, .. }) => Some(network),
            Self::Meta | Self::Host(_) | Self::Alive(_) | Self::Silent(_) | Self::Grace(_) | Self::Vni(_) => {
                None
            }
        }
    }
}

impl fmt::Display for Key {
    /// Without the prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta => f.write_str("meta"),
            Self::Host(host) => write!(f, "host/{host}"),
            Self::Alive(host) => write!(f, "alive/{host}"),
            Self::Silent(host) => write!(f, "silent/{host}"),
            Self::Grace(host) => write!(f, "grace/{host}"),
            Self::Net(network) => write!(f, "net/{network}"),
            Self::Vni(id) => write!(f, "vni/{id}"),
            Self::Block { network, first } => write!(f, "blk/{network}/{first}"),
            Self::Lent { network, address } => write!(f, "lent/{network}/{address}"),
            Self::Own { network, host } => write!(f, "own/{network}/{host}"),
            Self::Ask { network, address: Some(address), host } => {
                write!(f, "ask/{network}/{address}/{host}")
            }
            Self::Ask { network, address: None, host } => write!(f, "ask/{network}/{ANY}/{host}"),
            Self::Endpoint(Endpoint { network, host, container, ifname }) => {
                write!(f, "ep/{network}/{host}/{container}@{ifname}")
            }
        }
    }
}

impl Endpoint {
    /// `<container>@<ifname>`, as in its key and in the name of its file.
    pub fn attachment(&self) -> String {
        format!("{}@{}", self.container, self.ifname)
    }

    /// Reads a container's id and an interface's name from [`Endpoint::attachment`].
    pub fn split(attachment: &str) -> Option<(String, String)> {
        let (container, ifname) = attachment.split_once('@')?;
        (is_name(container) && cni::is_ifname(ifname)).then(|| (container.to_owned(), ifname.to_owned()))
    }
}

fn name(text: &str) -> Result<String, Fault> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(Fault::Key("a name in it is invalid")) }
}

fn host(text: &str) -> Result<String, Fault> {
    if is_host(text) { Ok(text.to_owned()) } else { Err(Fault::Key("its host is not 16 hex digits")) }
}

/// An address in the spelling that it prints in.
fn address(text: &str) -> Result<IpAddr, Fault> {
    let parsed = cni::parse_ip(text).ok().filter(|ip| ip.to_string() == text);
    parsed.ok_or(Fault::Key("its address is invalid"))
}

fn vni(text: &str) -> Result<u32, Fault> {
    let parsed = text.parse().ok().filter(|id: &u32| id.to_string() == text);
    parsed
        .filter(|id| (VNI_FIRST..=VNI_LAST).contains(id))
        .ok_or(Fault::Key("its VXLAN id is not one of ours"))
}

#[cfg(test)]
mod tests;
