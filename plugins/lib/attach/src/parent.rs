//! The parent of a macvlan, ipvlan or VLAN link, found before anything is changed.

use cni::Error;
use host::piece::{OnDemand, OnDemandKind, Place, is_ours, shared_name};
use netlink::{Link, Mac, Netlink, VlanProtocol};

use crate::Master;
use crate::master::{VLAN_IDS, invalid_vlan};

/// A link on which a container's link can be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub place: Place,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it has a carrier, or will have one when it is created.
    pub carrier: bool,
    /// The link that is down: the parent, or the link below a VLAN. No packet passes until it is
    /// up.
    pub down: Option<String>,
    /// How to create it, if it exists only while there are attachments.
    pub on_demand: Option<OnDemand>,
}

/// Kinds of links that take all frames of their ports, before a link on the port could receive them
/// (rx_handler).
const TAKES_FRAMES: [&str; 4] = ["bridge", "bond", "team", "openvswitch"];

/// linux/if.h: the longest interface name, in bytes (IFNAMSIZ - 1).
const NAME_MAX: usize = 15;

/// MTU of a link that nothing else determines, in bytes.
const ETHERNET_MTU: u32 = 1500;

impl Parent {
    /// Finds the configured parent; without a name it is the link of the default route in the main
    /// table. Creates nothing. `netlink` is the socket in `master.place`.
    ///
    /// # Errors
    /// There is none and none can be created, or it is loopback, or a port of a link that takes its
    /// frames; the text names the remedy.
    pub fn find(netlink: &Netlink, master: &Master) -> Result<Self, Error> {
        if master.internal {
            return Self::internal(netlink, &master.network);
        }
        if master.plain {
            return Self::plain(netlink, master.place, master.name.as_deref().unwrap_or_default());
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
                let (base, id) = found.ok_or_else(|| not_found(name))?;
                if !VLAN_IDS.contains(&id) {
                    return Err(Error::invalid_config(format!("master {name:?}: {}", invalid_vlan(id))));
                }
                Self::vlan(netlink, &base, id, name.clone())
            }
        }
    }

    /// The parent of a VLAN link.
    fn plain(netlink: &Netlink, place: Place, name: &str) -> Result<Self, Error> {
        let link = netlink.link_by_name(name)?.ok_or_else(|| not_found(name))?;
        refuse_loopback(&link)?;
        if place == Place::Host && is_ours(&link) {
            let msg = format!(
                "master {name:?} is a link that macvlan and ipvlan networks create and delete by need: make one of \
                 your own (ip link add), and name that as \"master\""
            );
            return Err(Error::invalid_config(msg));
        }
        Ok(Self::of(link, place, None))
    }

    fn existing(netlink: &Netlink, place: Place, link: Link) -> Result<Self, Error> {
        usable(netlink, &link)?;
        Ok(Self::of(link, place, None))
    }

    /// The link of VLAN `id` of `base`: an existing one, or one called `name` that is created on
    /// demand.
    fn vlan(netlink: &Netlink, base: &Link, id: u16, name: String) -> Result<Self, Error> {
        let is_this_vlan = |link: &Link| {
            link.vlan.as_ref().is_some_and(|vlan| vlan.id == id && vlan.protocol == VlanProtocol::Dot1q)
                && link.peer_index == Some(base.index)
                && link.peer_netns_id.is_none()
        };
        // Most often it has the expected name; otherwise all links are searched.
        let namesake = netlink.link_by_name(&name)?;
        let existing = match namesake.clone().filter(is_this_vlan) {
            None => netlink.links()?.into_iter().find(is_this_vlan),
            existing => existing,
        };
        let kind = OnDemandKind::Vlan { base: base.name.clone(), id, mtu: base.mtu };
        match existing {
            Some(link) if is_ours(&link) => {
                refuse_loopback(base)?;
                let on_demand = OnDemand { name: link.name.clone(), kind };
                // A VLAN link of ours is set up on demand, or by the kernel with the link below.
                let (carrier, down) = (base.carrier(), down(base));
                Ok(Self { carrier, down, mtu: base.mtu, ..Self::of(link, Place::Host, Some(on_demand)) })
            }
            Some(link) => Self::existing(netlink, Place::Host, link),
            None => {
                // It may be a bridge's port: a VLAN link gets its tagged frames before the bridge
                // does (`__netif_receive_skb_core`).
                refuse_loopback(base)?;
                if name.len() > NAME_MAX {
                    let length = name.len();
                    let msg = format!(
                        "the VLAN interface's name {name:?} would have {length} bytes, and 15 are the most: make it under a \
                         shorter name (ip link add link {} name NAME type vlan id {id}) and name that as \"master\"",
                        base.name
                    );
                    return Err(Error::invalid_config(msg));
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

    /// The parent of an internal network.
    fn internal(netlink: &Netlink, network: &str) -> Result<Self, Error> {
        let name = shared_name('d', network);
        // This address is never visible outside.
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

    /// If the master is down: why no packet passes, and the remedy.
    pub fn why_down(&self) -> Option<String> {
        let down = self.down.as_ref()?;
        Some(format!("master {down:?} is down: no packet passes until it is up (ip link set {down} up)"))
    }

    /// Logs that the master is down. ADD does not fail: the attachment works as soon as the master
    /// is up.
    pub(crate) fn report_down_master(&self, driver: &str) {
        if let Some(why) = self.why_down() {
            host::notice(format_args!("{driver}: {why}"));
        }
    }

    /// The configured MTU in bytes, if it fits this parent; `None` is the kernel's default, the
    /// parent's.
    ///
    /// # Errors
    /// It is above the parent's: an ipvlan link would drop larger packets silently. Or it is below
    /// 68, the minimum of any link (RFC 791).
    pub fn mtu_for(&self, configured: Option<i64>) -> Result<Option<u32>, Error> {
        let Some(configured) = configured else { return Ok(None) };
        let invalid = || {
            let text = format!("invalid MTU {configured}, must be [0, master MTU({})]", self.mtu);
            Error::invalid_config(text).details("0 is the master's; no link takes less than 68")
        };
        match u32::try_from(configured) {
            Ok(mtu) if (68..=self.mtu).contains(&mtu) => Ok(Some(mtu)),
            _ => Err(invalid()),
        }
    }
}

/// Splits `<link>.<number>`, the usual name of a VLAN link.
fn named_vlan(name: &str) -> Option<(&str, u16)> {
    let (base, id) = name.rsplit_once('.')?;
    let plain = id.bytes().all(|byte| byte.is_ascii_digit()) && (id == "0" || !id.starts_with('0'));
    Some((base, id.parse().ok().filter(|_| plain)?))
}

/// The parent and VLAN of a link, if it is a VLAN link that we created.
fn vlan_of(netlink: &Netlink, link: &Link) -> Result<Option<(Link, u16)>, Error> {
    match (&link.vlan, link.peer_index) {
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

fn not_found(name: &str) -> Error {
    Error::internal(format!("failed to lookup master {name:?}: Link not found"))
}

fn refuse_loopback(link: &Link) -> Result<(), Error> {
    if link.loopback() {
        let msg = format!("master {:?} is loopback: it has no network", link.name);
        return Err(Error::invalid_config(msg));
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
    fn a_name_with_a_number_after_the_last_dot_names_a_vlan() {
        assert_eq!(named_vlan("eth0.10"), Some(("eth0", 10)));
        assert_eq!(named_vlan("eth0.10.20"), Some(("eth0.10", 20)));
        assert_eq!(named_vlan("eth0.0"), Some(("eth0", 0)));
        assert_eq!(named_vlan("eth0.4095"), Some(("eth0", 4095)));
        for name in ["eth0", "eth0.", "eth0.x", "eth0.+1", "eth0.010", "eth0.00", "eth0.65536", "eth0.-1"] {
            assert_eq!(named_vlan(name), None, "{name}");
        }
    }
}
