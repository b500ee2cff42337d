//! VLANs of bridge ports.

use libc::{RTM_DELLINK, RTM_GETLINK, RTM_SETLINK};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask};
use rtnetlink::{LinkBridgeVlan, LinkUnspec};
use sys::Result;

use super::{IFLA_AF_SPEC, read};
use crate::Netlink;
use crate::attr::{Attrs, Malformed};
use crate::message::Request;

/// linux/if_bridge.h: `struct bridge_vlan_info`, u16 flags, u16 id.
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
/// linux/if_bridge.h, flags of a VLAN.
const PVID: u16 = 1 << 1;
const UNTAGGED: u16 = 1 << 2;
const RANGE_BEGIN: u16 = 1 << 3;

/// VLANs of a port that have the same flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlans {
    /// Lowest id, 1 to 4094.
    pub first: u16,
    /// Highest id; `first` for one VLAN.
    pub last: u16,
    /// Incoming untagged frames belong to it (one VLAN only).
    pub pvid: bool,
    /// Its frames leave untagged.
    pub untagged: bool,
}

impl PortVlans {
    /// One VLAN.
    pub fn one(id: u16, pvid: bool, untagged: bool) -> Self {
        Self { first: id, last: id, pvid, untagged }
    }

    fn request(&self, kind: u16, index: u32) -> Request {
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, self.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, self.untagged);
        let port = LinkBridgeVlan::new(index);
        let port = if self.first == self.last {
            port.vlan(self.first, flags)
        } else {
            port.vlan_range_start(self.first, flags).vlan_range_end(self.last, flags)
        };
        Request::of(kind, 0, &port.build())
    }

    fn label(&self) -> String {
        if self.first == self.last {
            format!("VLAN {}", self.first)
        } else {
            format!("VLANs {}-{}", self.first, self.last)
        }
    }
}

/// Reads the payload of an RTM_NEWLINK of the bridge family, if it describes `index`.
pub(crate) fn read(payload: &[u8], index: u32) -> Result<Vec<PortVlans>, Malformed> {
    let mut vlans = Vec::new();
    if read::index(payload)? != index {
        return Ok(vlans);
    }
    let mut first = None;
    for spec in Attrs::after(payload, read::HEADER)? {
        let spec = spec?;
        if spec.kind != IFLA_AF_SPEC {
            continue;
        }
        for attr in spec.nested() {
            let attr = attr?;
            if attr.kind != IFLA_BRIDGE_VLAN_INFO {
                continue;
            }
            let Some(&[a, b, c, d]) = attr.payload.first_chunk() else {
                return Err(Malformed("a VLAN is too short"));
            };
            let (flags, id) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
            if flags & RANGE_BEGIN != 0 {
                first = Some(id);
                continue;
            }
            let first = first.take().unwrap_or(id);
            vlans.push(PortVlans {
                first,
                last: id,
                pvid: flags & PVID != 0,
                untagged: flags & UNTAGGED != 0,
            });
        }
    }
    Ok(vlans)
}

impl Netlink {
    /// Lists the VLANs of a port; empty on a kernel without bridge VLAN filtering.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn port_vlans(&self, index: u32) -> Result<Vec<PortVlans>> {
        // Strict checking forbids naming the link here: all ports are listed.
        let all = LinkUnspec::new_with_index(0)
            .interface_family(AddressFamily::Bridge)
            .append_extra_attribute(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
        let request = Request::of(RTM_GETLINK, 0, &all.build());
        self.socket
            .dump(request, |payload, vlans| {
                vlans.extend(read(payload, index)?);
                Ok(())
            })
            .map_err(|refusal| refusal.on("list", "VLANs of bridge ports"))
    }

    /// Adds VLANs to a port; existing ones get these flags.
    ///
    /// # Errors
    /// `is_not_supported`: the kernel lacks bridge VLAN filtering. EINVAL: an id is invalid.
    pub fn add_port_vlans(&self, index: u32, vlans: PortVlans) -> Result<()> {
        self.change("add", vlans.request(RTM_SETLINK, index), || {
            format!("{} to bridge port {}", vlans.label(), self.link_label(index))
        })
    }

    /// Removes VLANs from a port, regardless of the flags.
    ///
    /// # Errors
    /// `is_not_supported`: the kernel lacks bridge VLAN filtering.
    pub fn delete_port_vlans(&self, index: u32, vlans: PortVlans) -> Result<()> {
        let vlans = PortVlans { pvid: false, untagged: false, ..vlans };
        self.change("delete", vlans.request(RTM_DELLINK, index), || {
            format!("{} from bridge port {}", vlans.label(), self.link_label(index))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..120)) {
            let index = read::index(&bytes).unwrap_or(0);
            let _ = read(&bytes, index);
        }

        #[test]
        fn a_request_is_read_back(first in 1u16..4095, more in 0u16..100, pvid: bool, untagged: bool) {
            let vlans = PortVlans { first, last: first + more, pvid, untagged };
            let bytes = vlans.request(RTM_SETLINK, 7).finish(1).unwrap();
            prop_assert_eq!(read(bytes.get(16..).unwrap(), 7).unwrap(), [vlans]);
            prop_assert_eq!(read(bytes.get(16..).unwrap(), 8).unwrap(), []);
        }
    }

    /// The structures of linux/if_bridge.h, as `bridge vlan add dev <7> vid 100 pvid untagged`
    /// sends them.
    #[test]
    #[cfg(target_endian = "little")]
    fn a_pvid_is_sent_as_in_linux_if_bridge_h() {
        let bytes = PortVlans::one(100, true, true).request(RTM_SETLINK, 7).finish(5).unwrap();
        let expected = [
            // nlmsghdr: 44 bytes, RTM_SETLINK, NLM_F_REQUEST, sequence 5.
            &[44, 0, 0, 0, 19, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0][..],
            // ifinfomsg: AF_BRIDGE, index 7.
            &[7, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            // IFLA_AF_SPEC { IFLA_BRIDGE_VLAN_INFO { PVID | UNTAGGED, 100 } }.
            &[12, 0, 26, 0, 8, 0, 2, 0, 6, 0, 100, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_range_is_sent_as_begin_and_end() {
        let trunk = PortVlans { first: 200, last: 300, pvid: false, untagged: false };
        let bytes = trunk.request(RTM_DELLINK, 7).finish(5).unwrap();
        let expected = [20, 0, 26, 0, 8, 0, 2, 0, 8, 0, 200, 0, 8, 0, 2, 0, 16, 0, 44, 1];
        assert_eq!(bytes.get(32..).unwrap(), expected);
        assert_eq!(bytes.get(4..6).unwrap(), [17, 0]);
    }
}
