//! `dns`: containers find each other by name, on every kind of network.
//!
//! The plugin and the responder share one executable and the files of [`record`]. The plugin
//! writes a file for each attachment and notifies the responder ([`control`]) before ADD
//! returns. The responder keeps no other state.

pub mod cache;
mod config;
mod container;
pub mod control;
mod dnsname;
mod event_loop;
mod facts;
mod forward;
mod launch;
mod locate;
mod map;
mod plan;
mod port_holder;
pub mod probe;
pub mod record;
pub mod remote;
mod responder;
pub mod restore;
pub mod serve;
mod source;
mod verbs;
pub mod wire;
pub mod zone;

use std::ffi::OsString;

use cni::{AddResult, Error, Plugin, Request};
pub use config::KEYS;

/// The plugin `dns`.
pub struct Dns;

impl Plugin for Dns {
    const NAME: &'static str = "dns";
    const ABOUT: &'static str = "containers find each other by name";
    /// Configurations of that plugin work unchanged.
    const ALIASES: &'static [&'static str] = &["dnsname"];
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[("serve", "answers DNS queries while there are attachments; ADD starts it")];

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        verbs::add(request)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        verbs::check(request)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        verbs::del(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        verbs::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        verbs::status(request)
    }

    fn command(&self, _name: &str, arguments: &[OsString]) -> Result<(), Error> {
        launch::detach();
        serve::main(arguments)
    }
}
