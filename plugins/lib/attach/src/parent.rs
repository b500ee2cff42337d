//! The parent of a macvlan or ipvlan link, looked at before anything is touched.

use cni::{Code, Error};
use host::piece::{OnDemand, OnDemandKind, Place, is_ours, shared_name};
use netlink::{Link, Mac, Netlink};

use crate::Master;
use crate::master::{VLAN_IDS, invalid_vlan};

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
    /// Whether it carries packets now, or will when it is made.
    pub carrier: bool,
    /// The link that nobody has set up yet: the parent, or the one whose VLAN it is. No packet passes until then.
    pub down: Option<String>,
    /// What it is, if it is made with the first attachment and taken away with the last one.
    pub on_demand: Option<OnDemand>,
}

/// Kinds of links whose ports have their frames taken away before a stacked link could see them (rx_handler).
const TAKES_FRAMES: [&str; 4] = ["bridge", "bond", "team", "openvswitch"];

/// linux/if.h: the longest interface name, in bytes (IFNAMSIZ - 1).
const NAME_MAX: usize = 15;

/// MTU of a link that nothing else determines, in bytes.
const ETHERNET_MTU: u32 = 1500;

impl Parent {
    /// The parent that the configuration asks for; without a name it is the link of the default route in the main
    /// table. Nothing is made. `netlink` is the socket in `master.place`.
    ///
    /// # Errors
    /// There is none and none can be made, or it is loopback, or a port of something that takes its frames; the text
    /// says what to do.
    pub fn find(netlink: &Netlink, master: &Master) -> Result<Self, Error> {
        if master.internal {
            return Self::internal(netlink, &master.network);
        }
        let Some(name) = &master.name else {
            let link = match netlink.default_route_link()? {
                Some(index) => netlink.link_by_index(index)?,
                None => None,
            };
            let link = link.ok_or_else(|| {
                Error::internal("no default route interface found: name an interface as \"master\"")
            })?;
            return match master.vlan {
                Some(id) => Self::vlan(netlink, &link, id, format!("{}.{id}", link.name)),
                None => Self::existing(netlink, master.place, link),
            };
        };
        match (netlink.link_by_name(name)?, master.vlan) {
            (Some(base), Some(id)) => Self::vlan(netlink, &base, id, format!("{}.{id}", base.name)),
            (Some(link), None) => match vlan_of(netlink, &link)? {
                Some((base, id)) if master.place == Place::Host => Self::vlan(netlink, &base, id, link.name),
                _ => Self::existing(netlink, master.place, link),
            },
            (None, id) => {
                let named = if id.is_none() && master.place == Place::Host { named_vlan(name) } else { None };
                let found = match named {
                    Some((base, id)) => netlink.link_by_name(base)?.map(|base| (base, id)),
                    None => None,
                };
                let Some((base, id)) = found else {
                    return Err(Error::internal(format!("failed to lookup master {name:?}: Link not found")));
                };
                if !VLAN_IDS.contains(&id) {
                    return Err(Error::new(
                        Code::InvalidConfig,
                        format!("master {name:?}: {}", invalid_vlan(id)),
                    ));
                }
                Self::vlan(netlink, &base, id, name.clone())
            }
        }
    }

    fn existing(netlink: &Netlink, place: Place, link: Link) -> Result<Self, Error> {
        usable(netlink, &link)?;
        Ok(Self::of(link, place, None))
    }

    /// VLAN `id` of `base`: the link of it that is there, or one called `name` that is made on demand.
    fn vlan(netlink: &Netlink, base: &Link, id: u16, name: String) -> Result<Self, Error> {
        let is_it = |link: &Link| {
            link.vlan.is_some_and(|vlan| vlan.id == id && vlan.dot1q)
                && link.peer_index == Some(base.index)
                && link.peer_netns_id.is_none()
        };
        // It is called as expected, or it is looked for among all.
        let namesake = netlink.link_by_name(&name)?;
        let there = match namesake.clone().filter(is_it) {
            None => netlink.links()?.into_iter().find(is_it),
            there => there,
        };
        let kind = OnDemandKind::Vlan { base: base.name.clone(), id, mtu: base.mtu };
        match there {
            Some(link) if is_ours(&link) => {
                refuse_loopback(base)?;
                let on_demand = OnDemand { name: link.name.clone(), kind };
                // Ours is set up when it is needed, or by the kernel with the link below.
                let (carrier, down) = (base.carrier(), down(base));
                Ok(Self { carrier, down, mtu: base.mtu, ..Self::of(link, Place::Host, Some(on_demand)) })
            }
            Some(link) => Self::existing(netlink, Place::Host, link),
            None => {
                // That it is a bridge's port is no hindrance: the tagged frames are its VLANs' before they are the
                // bridge's (`__netif_receive_skb_core`).
                refuse_loopback(base)?;
                if name.len() > NAME_MAX {
                    let length = name.len();
                    let msg = format!(
                        "the VLAN interface's name {name:?} would have {length} bytes, and 15 are the most: make it under a \
                         shorter name (ip link add link {} name NAME type vlan id {id}) and name that as \"master\"",
                        base.name
                    );
                    return Err(Error::new(Code::InvalidConfig, msg));
                }
                if namesake.is_some() {
                    let msg =
                        format!("there is an interface {name:?}, and it is not VLAN {id} of {:?}", base.name);
                    return Err(Error::internal(msg));
                }
                let on_demand = Some(OnDemand { name: name.clone(), kind });
                Ok(Self { name, on_demand, ..Self::of(base.clone(), Place::Host, None) })
            }
        }
    }

    /// The wire of a network's own.
    fn internal(netlink: &Netlink, network: &str) -> Result<Self, Error> {
        let name = shared_name('d', network);
        // Nobody else hears of this address.
        let mac = Mac::of_hash(host::hash(&name));
        let kind = OnDemandKind::Internal { network: network.to_owned(), mac };
        let on_demand = Some(OnDemand { name: name.clone(), kind });
        Ok(match netlink.link_by_name(&name)? {
            Some(link) => Self { carrier: true, down: None, ..Self::of(link, Place::Host, on_demand) },
            None => {
                let (place, mac, mtu) = (Place::Host, Some(mac), ETHERNET_MTU);
                Self { name, place, mac, mtu, carrier: true, down: None, on_demand }
            }
        })
    }

    fn of(link: Link, place: Place, on_demand: Option<OnDemand>) -> Self {
        let (carrier, down) = (link.carrier(), down(&link));
        Self { name: link.name, place, mac: link.mac, mtu: link.mtu, carrier, down, on_demand }
    }

    /// Why no packet passes although nothing is wrong with the attachment, and what to do.
    pub(crate) fn sleeping(&self) -> Option<String> {
        let down = self.down.as_ref()?;
        Some(format!("master {down:?} is down: no packet passes until it is up (ip link set {down} up)"))
    }

    /// A master that is down is no reason to fail: the attachment works as soon as it is up.
    pub(crate) fn report_sleeping(&self, driver: &str) {
        if let Some(why) = self.sleeping() {
            host::notice(format_args!("{driver}: {why}"));
        }
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

/// `<link>.<number>`, as people call VLAN links: the link and the number.
fn named_vlan(name: &str) -> Option<(&str, u16)> {
    let (base, id) = name.rsplit_once('.')?;
    let plain = id.bytes().all(|byte| byte.is_ascii_digit()) && (id == "0" || !id.starts_with('0'));
    Some((base, id.parse().ok().filter(|_| plain)?))
}

/// The link's own parent and number, if it is a VLAN link that we made.
fn vlan_of(netlink: &Netlink, link: &Link) -> Result<Option<(Link, u16)>, Error> {
    match (link.vlan, link.peer_index) {
        (Some(vlan), Some(index)) if is_ours(link) => {
            Ok(netlink.link_by_index(index)?.map(|base| (base, vlan.id)))
        }
        _ => Ok(None),
    }
}

fn usable(netlink: &Netlink, link: &Link) -> Result<(), Error> {
    let name = &link.name;
    refuse_loopback(link)?;
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
    Ok(())
}

fn refuse_loopback(link: &Link) -> Result<(), Error> {
    if link.loopback() {
        let msg = format!("master {:?} is loopback: it has no network", link.name);
        return Err(Error::new(Code::InvalidConfig, msg));
    }
    Ok(())
}

fn down(link: &Link) -> Option<String> {
    (!link.up()).then(|| link.name.clone())
}

#[cfg(test)]
mod tests {
    use super::named_vlan;

    #[test]
    fn a_name_with_a_number_after_the_last_dot_is_a_vlans() {
        assert_eq!(named_vlan("eth0.10"), Some(("eth0", 10)));
        assert_eq!(named_vlan("eth0.10.20"), Some(("eth0.10", 20)));
        assert_eq!(named_vlan("eth0.0"), Some(("eth0", 0)));
        assert_eq!(named_vlan("eth0.4095"), Some(("eth0", 4095)));
        for name in ["eth0", "eth0.", "eth0.x", "eth0.+1", "eth0.010", "eth0.00", "eth0.65536", "eth0.-1"] {
            assert_eq!(named_vlan(name), None, "{name}");
        }
    }
}
