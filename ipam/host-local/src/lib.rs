//! host-local: addresses from ranges, leased in a directory that the reference's plugin of that name can share.
//!
//! `config` reads and checks, `range` knows which addresses come in which order, `store` is the directory,
//! `alloc` gives addresses, and here are the verbs.

mod alloc;
mod boot;
mod config;
mod error;
mod index;
mod lease;
mod range;
mod resolv;
mod rest;
mod store;
mod text;
mod verbs;

pub use boot::Roots;
pub use verbs::{HostLocal, validate};
