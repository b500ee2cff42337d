//! Dummy links, which drop every packet.

use libc::RTM_NEWLINK;
use rtnetlink::{LinkDummy, LinkMessageBuilder};
use sys::Result;

use super::quoted;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// A dummy link to create.
#[derive(Clone, Copy, Debug)]
pub struct Dummy<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; `None` is a random one.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes; `None` is the kernel's default, 1500.
    pub mtu: Option<u32>,
    /// Its index; 0 lets the kernel choose.
    pub index: u32,
    /// The group that it is created in (IFLA_GROUP); 0 is the default group.
    pub group: u32,
}

impl Dummy<'_> {
    fn request(&self) -> Request {
        let link = LinkDummy::new(self.name).index(self.index);
        let link = with(link, self.mac, |link, mac| link.address(mac.0.to_vec()));
        let link = with(link, self.mtu, LinkMessageBuilder::mtu);
        let link = with(link, Some(self.group).filter(|&group| group != 0), LinkMessageBuilder::link_group);
        Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(self.name)
    }
}

impl Netlink {
    /// Creates a dummy link, down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken; EBUSY when the index is; `is_not_supported` without
    /// CONFIG_DUMMY.
    pub fn create_dummy(&self, link: &Dummy<'_>) -> Result<()> {
        self.change("create dummy link", link.request(), || quoted(link.name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    #[test]
    fn a_request_is_read_back() {
        let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        let dummy = Dummy { name: "eth0", mac, mtu: Some(1400), index: 77, group: 5 };
        let link = read::link(dummy.request().finish(1).unwrap().get(16..).unwrap()).unwrap();
        assert_eq!((link.name.as_str(), link.kind.as_deref()), ("eth0", Some("dummy")));
        assert_eq!((link.index, link.mac, link.mtu, link.group), (77, mac, 1400, 5));
    }
}
