//! VRF devices: links in one of them look for their routes in its table.

use libc::RTM_NEWLINK;
use rtnetlink::LinkVrf;
use sys::Result;

use super::quoted;
use crate::Netlink;
use crate::attr::{Attrs, Malformed};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};

/// linux/if_link.h.
const IFLA_VRF_TABLE: u16 = 1;

/// A VRF device to create.
#[derive(Clone, Copy, Debug)]
pub struct Vrf<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its routing table.
    pub table: u32,
    /// Its index; 0 lets the kernel choose.
    pub index: u32,
}

impl Vrf<'_> {
    fn request(&self) -> Request {
        let link = LinkVrf::new(self.name, self.table).index(self.index).up();
        Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(self.name)
    }
}

/// Reads the table in the IFLA_INFO_DATA of a VRF device.
pub(super) fn table(attrs: Attrs<'_>) -> Result<Option<u32>, Malformed> {
    for attr in attrs {
        let attr = attr?;
        if attr.kind == IFLA_VRF_TABLE {
            return attr.u32().map(Some);
        }
    }
    Ok(None)
}

impl Netlink {
    /// Creates a VRF device, up.
    ///
    /// # Errors
    /// `is_exists` when the name is taken; EBUSY when the index is; `is_not_supported` without
    /// CONFIG_NET_VRF.
    pub fn create_vrf(&self, vrf: &Vrf<'_>) -> Result<()> {
        self.change("create VRF", vrf.request(), || quoted(vrf.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn a_request_is_read_back() {
        let vrf = Vrf { name: "red", table: 7000, index: 77 };
        let link = read::link(vrf.request().finish(1).unwrap().get(16..).unwrap()).unwrap();
        assert_eq!((link.name.as_str(), link.kind.as_deref(), link.index), ("red", Some("vrf"), 77));
        assert_eq!((link.vrf_table, link.up()), (Some(7000), true));
    }
}
