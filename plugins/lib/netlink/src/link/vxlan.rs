//! VXLAN devices, with the receivers of frames in their own forwarding table.

use std::net::IpAddr;

use libc::RTM_NEWLINK;
use rtnetlink::{LinkMessageBuilder, LinkVxlan};
use sys::Result;

use super::quoted;
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// linux/if_link.h, attributes of a VXLAN device.
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_TTL: u16 = 5;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PROXY: u16 = 11;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

/// Hops that a packet between hosts may take.
const TTL: u8 = 64;

/// A VXLAN device to create. It learns nothing from frames, and answers ARP and neighbour
/// solicitations from its own neighbour entries. UDP checksums are as the kernel makes them by
/// default: on, in both families.
#[derive(Clone, Copy, Debug)]
pub struct NewVxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network's number, 24 bits.
    pub id: u32,
    /// The source of its packets.
    pub local: IpAddr,
    /// The UDP port of all hosts.
    pub port: u16,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Its Ethernet address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// Its group; see [`Netlink::delete_link_group`].
    pub group: u32,
}

/// Attributes of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanInfo {
    /// The network's number (IFLA_VXLAN_ID).
    pub id: u32,
    /// The source of its packets; `None`: as the route has it.
    pub local: Option<IpAddr>,
    /// The UDP port (IFLA_VXLAN_PORT).
    pub port: u16,
    /// It learns from frames which host an address is behind (IFLA_VXLAN_LEARNING).
    pub learning: bool,
    /// It answers ARP and neighbour solicitations (IFLA_VXLAN_PROXY).
    pub proxy: bool,
    /// Hops of its packets; 0: the kernel's default (IFLA_VXLAN_TTL).
    pub ttl: u8,
}

impl VxlanInfo {
    /// Reads the IFLA_INFO_DATA of a VXLAN device.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Self, Malformed> {
        let mut info = Self { id: 0, local: None, port: 0, learning: false, proxy: false, ttl: 0 };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_VXLAN_ID => info.id = attr.u32()?,
                IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => {
                    info.local = Some(attr.ip()?).filter(|local| !local.is_unspecified());
                }
                // In network byte order.
                IFLA_VXLAN_PORT => {
                    let port = attr.payload.first_chunk().ok_or(Malformed("a port is too short"))?;
                    info.port = u16::from_be_bytes(*port);
                }
                IFLA_VXLAN_LEARNING => info.learning = attr.u8()? != 0,
                IFLA_VXLAN_PROXY => info.proxy = attr.u8()? != 0,
                IFLA_VXLAN_TTL => info.ttl = attr.u8()?,
                _ => {}
            }
        }
        Ok(info)
    }
}

impl NewVxlan<'_> {
    fn request(&self) -> Request {
        let link = LinkVxlan::new(self.name, self.id).port(self.port).ttl(TTL).learning(false).proxy(true);
        let link = match self.local {
            IpAddr::V4(local) => link.local(local),
            IpAddr::V6(local) => link.local6(local),
        };
        let link = with(link.mtu(self.mtu), self.mac, |link, mac| link.address(mac.0.to_vec()));
        let link = with(link, self.master, LinkMessageBuilder::controller).link_group(self.group);
        Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(self.name)
    }
}

impl Netlink {
    /// Creates a VXLAN device. It is down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken, or another device of this namespace has the number and
    /// the port; `is_not_supported` without VXLAN in the kernel. Nothing was created.
    pub fn create_vxlan(&self, vxlan: &NewVxlan<'_>) -> Result<()> {
        self.change("create VXLAN device", vxlan.request(), || {
            format!("{} of id {} and UDP port {}", quoted(vxlan.name), vxlan.id, vxlan.port)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::read;

    /// The kernel's attributes are read back from the request that makes the device.
    #[test]
    fn a_request_says_what_is_read_back() {
        for local in ["192.0.2.1", "2001:db8::1"] {
            let local: IpAddr = local.parse().unwrap();
            let new = NewVxlan {
                name: "mx0",
                id: 0x6d_0001,
                local,
                port: 4789,
                mtu: 1450,
                mac: Some(Mac([2, 0, 0, 0, 0, 1])),
                master: Some(7),
                group: 5,
            };
            let bytes = new.request().finish(1).unwrap();
            let link = read::link(bytes.get(16..).unwrap()).unwrap();
            let info = VxlanInfo {
                id: 0x6d_0001,
                local: Some(local),
                port: 4789,
                learning: false,
                proxy: true,
                ttl: 64,
            };
            assert_eq!((link.name.as_str(), link.kind.as_deref()), ("mx0", Some("vxlan")));
            assert_eq!((link.vxlan, link.mtu, link.master, link.group), (Some(info), 1450, Some(7), 5));
        }
    }
}
