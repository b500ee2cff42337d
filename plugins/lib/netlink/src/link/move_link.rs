//! Moving a link to another namespace.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::RTM_NEWLINK;
use rtnetlink::LinkUnspec;
use sys::Result;

use super::{IFLA_IFALIAS, IFLA_NEW_IFINDEX, raw};
use crate::Netlink;
use crate::message::Request;

/// A move to another namespace, with the changes that the same request makes.
#[derive(Clone, Copy, Debug)]
pub struct LinkMove<'a> {
    /// The namespace that it moves to.
    pub netns: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a str,
    /// Its index there; 0: it keeps the one that it has, or gets another if that is taken. Kernels
    /// before Linux 5.13 always do the latter.
    pub new_index: u32,
    /// Its alias there.
    pub alias: &'a str,
}

impl Netlink {
    /// Moves a link to another namespace, in one request. The move sets it down, and takes its
    /// addresses, its routes and its master.
    ///
    /// The kernel moves first, then renames, then sets the alias (do_setlink,
    /// net/core/rtnetlink.c). If the namespace has a link with the new name, the link may have
    /// moved with its old name, and without the alias.
    ///
    /// # Errors
    /// EBUSY: the index is taken there. `is_exists`: the name is. EINVAL: links of this kind cannot
    /// leave their namespace.
    pub fn move_link(&self, index: u32, to: &LinkMove<'_>) -> Result<()> {
        let mut link = LinkUnspec::new_with_index(index)
            .setns_by_fd(to.netns.as_raw_fd())
            .name(to.name.to_owned())
            .append_extra_attribute(raw(IFLA_IFALIAS, to.alias.as_bytes()));
        if to.new_index != 0 {
            link = link.append_extra_attribute(raw(IFLA_NEW_IFINDEX, &to.new_index.to_ne_bytes()));
        }
        let request = Request::of(RTM_NEWLINK, 0, &link.build()).named(to.name);
        self.change("move link", request, || self.link_label(index))
    }
}
