//! What must hold of any input whatever. Each body takes bytes and panics when it does not: the fuzzer
//! (`libfuzzer/`) looks for such bytes guided by coverage, the property tests here on any toolchain.
//! The inputs in `testdata/fuzz/<name of the body>/` are where both begin.

mod request;
mod result;
mod store;

pub use request::{conflist, request};
pub use result::result;
pub use store::store;

/// A body: its name, and what it does.
pub type Body = (&'static str, fn(&[u8]));

/// Every body.
pub const ALL: &[Body] = &[
    ("request", request),
    ("result", result),
    ("conflist", conflist),
    ("store", store),
    ("netlink", netlink),
    ("dns", dns::wire::fuzz::query),
];

/// What the kernel sends is read without a panic, whatever it is: rtnetlink, nf_tables, conntrack.
pub fn netlink(bytes: &[u8]) {
    nft::fuzz::replies(bytes);
}
