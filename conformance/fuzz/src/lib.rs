//! Properties that must hold for any input. Each body takes bytes and panics when its property
//! fails: the fuzzer (`libfuzzer/`) searches for such bytes guided by coverage, the property tests
//! here run on any toolchain. Both start from the inputs in `testdata/fuzz/<name of the body>/`.

mod request;
mod result;
mod store;
mod yaml;

pub use request::{conflist, request};
pub use result::result;
pub use store::store;
pub use yaml::yaml;

/// A body: its name and its function.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub const ALL: &[Body] = &[
    ("request", request),
    ("result", result),
    ("conflist", conflist),
    ("store", store),
    ("netlink", netlink),
    ("dbus", dbus::fuzz::message),
    ("dhcp", dhcp::fuzz::frame),
    ("dhcpv6", dhcp::fuzz::datagram),
    ("dns", dns::wire::fuzz::query),
    ("dns-answer", dns::cache::fuzz::answer),
    ("yaml", yaml),
    ("etcd", cluster::fuzz::records),
    ("cluster", cluster::fuzz::settings),
    ("lint", moor::lint::fuzz::conflist),
];

/// Any bytes from the kernel are read without a panic: rtnetlink, nf_tables, conntrack.
pub fn netlink(bytes: &[u8]) {
    nft::fuzz::replies(bytes);
}
