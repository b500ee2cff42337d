//! Dummy links, which drop every packet.

use libc::RTM_NEWLINK;
use rtnetlink::LinkDummy;
use sys::Result;

use super::quoted;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};
use crate::{Mac, Netlink};

impl Netlink {
    /// Creates a dummy link, down, in `group` from the start (IFLA_GROUP).
    ///
    /// # Errors
    /// `is_exists` when the name is taken; `is_not_supported` without CONFIG_DUMMY.
    pub fn create_dummy(&self, name: &str, mac: Mac, group: u32) -> Result<()> {
        let link = LinkDummy::new(name).address(mac.0.to_vec()).link_group(group).build();
        let request = Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link).named(name);
        self.change("create dummy link", request, || quoted(name))
    }
}
