//! `dhcp`: leases addresses for containers from DHCP servers.
//!
//! The plugin and the daemon share one executable and the files of [`record`]. The plugin gets and
//! releases a lease itself, in the container's namespace. The daemon keeps it meanwhile, and holds
//! nothing that is not in the records.

mod acquire;
mod answer;
mod ask;
mod client;
mod config;
mod control;
mod exchange;
mod farewell;
mod frame;
pub mod fuzz;
mod grant;
mod keeper;
mod message;
mod probe;
mod record;
mod routers;
mod serve;
mod terms;
mod v6;
mod verbs;
mod wire;

use std::ffi::OsString;

use cni::{AddResult, Error, Plugin, Request};

pub use config::KEYS;
pub use verbs::validate;

/// The plugin `dhcp`.
pub struct Dhcp;

impl Plugin for Dhcp {
    const NAME: &'static str = "dhcp";
    const ABOUT: &'static str = "leases addresses for containers from DHCP servers";
    const COMMANDS: &'static [(&'static str, &'static str)] =
        &[("daemon", "keeps the leases of containers; ADD starts it")];

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
        serve::main(arguments)
    }
}
