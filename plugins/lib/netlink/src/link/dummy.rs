//! dummy links: a wire with nobody at its other end.

use sys::Result;

use super::{
    IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_NEWLINK, header, quoted,
};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};
use crate::{Mac, Netlink};

impl Netlink {
    /// Makes a dummy link, down, born in `group` (IFLA_GROUP).
    ///
    /// # Errors
    /// `is_exists` when the name is taken; `is_not_supported` without CONFIG_DUMMY.
    pub fn create_dummy(&self, name: &str, mac: Mac, group: u32) -> Result<()> {
        let mut request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header(0, 0, 0, 0));
        let attrs = &mut request.attrs;
        attrs.string(IFLA_IFNAME, name);
        attrs.bytes(IFLA_ADDRESS, &mac.0);
        attrs.u32(IFLA_GROUP, group);
        attrs.nest(IFLA_LINKINFO, |attrs| attrs.string(IFLA_INFO_KIND, "dummy"));
        self.change("create dummy link", request, || quoted(name))
    }
}
