//! The network namespace of the host, as the directories of records name it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use netlink::Netlink;

/// The name of this host's network namespace among the records.
pub fn namespace_name() -> Option<String> {
    let cookie = Netlink::open().ok().and_then(|netlink| netlink.netns_cookie());
    let inode = || fs::metadata("/proc/thread-self/ns/net").ok().map(|meta| format!("inode-{}", meta.ino()));
    cookie.map(|cookie| cookie.to_string()).or_else(inode)
}
