//! The parent of a macvlan or ipvlan link, looked at before anything is touched.

use cni::{Code, Error};
use host::Mac;
use host::netlink::{Link, Netlink};
use host::piece::Place;

/// A link that others can be stacked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it carries packets now.
    pub carrier: bool,
}

/// Kinds of links whose ports have their frames taken away before a stacked link could see them (rx_handler).
const TAKES_FRAMES: [&str; 4] = ["bridge", "bond", "team", "openvswitch"];

impl Parent {
    /// The link that the configuration calls `master`; without a name that of the default route in the main table.
    /// `netlink` is the socket in `place`.
    ///
    /// # Errors
    /// There is none, or it is loopback, down, or a port of something that takes its frames; the text says what to do.
    pub fn find(netlink: &Netlink, place: Place, name: Option<&str>) -> Result<Self, Error> {
        let link = match name {
            Some(name) => netlink.link_by_name(name)?.ok_or_else(|| {
                Error::internal(format!("failed to lookup master {name:?}: Link not found"))
            })?,
            None => {
                let link = match netlink.default_route_link()? {
                    Some(index) => netlink.link_by_index(index)?,
                    None => None,
                };
                link.ok_or_else(|| {
                    Error::internal("no default route interface found: name an interface as \"master\"")
                })?
            }
        };
        usable(netlink, &link)?;
        let carrier = link.carrier();
        Ok(Self { name: link.name, place, mac: link.mac, mtu: link.mtu, carrier })
    }

    /// The MTU in bytes that is asked for, if it fits this parent; 0 asks for none.
    ///
    /// # Errors
    /// Above the parent's: an ipvlan would be made, and lose its larger packets without a word. Below 68: no link may
    /// have less (RFC 791).
    pub fn mtu_for(&self, asked: i64) -> Result<Option<u32>, Error> {
        let invalid = || {
            let text = format!("invalid MTU {asked}, must be [0, master MTU({})]", self.mtu);
            Error::new(Code::InvalidConfig, text).details("0 is the master's; no link takes less than 68")
        };
        match u32::try_from(asked) {
            Ok(0) => Ok(None),
            Ok(mtu) if (68..=self.mtu).contains(&mtu) => Ok(Some(mtu)),
            _ => Err(invalid()),
        }
    }
}

fn usable(netlink: &Netlink, link: &Link) -> Result<(), Error> {
    let name = &link.name;
    if link.loopback() {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("master {name:?} is loopback: it has no network"),
        ));
    }
    if let Some(index) = link.master
        && let Some(of) = netlink.link_by_index(index)?
        && of.kind.as_deref().is_some_and(|kind| TAKES_FRAMES.contains(&kind))
    {
        let kind = of.kind.as_deref().unwrap_or_default();
        return Err(Error::internal(format!(
            "master {name:?} is a port of the {kind} {:?}, which takes all its frames: name {:?} as \"master\"",
            of.name, of.name
        )));
    }
    if !link.up() {
        return Err(Error::internal(format!(
            "master {name:?} is down: set it up first (ip link set {name} up)"
        )));
    }
    Ok(())
}
