//! static: addresses, routes and resolvers as the configuration and the runtime give them. It keeps
//! no state.
//!
//! `config` reads and checks all inputs, `args` is the part of them in CNI_ARGS, `drift` compares
//! them with an earlier result.

mod args;
mod config;
mod drift;
mod error;

use cni::{AddResult, Error, Plugin, Request};

use args::Args;
pub use config::KEYS;
use config::{Conf, Settings};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct Static;

impl Plugin for Static {
    const NAME: &'static str = "static";
    const ABOUT: &'static str = "gives a container the addresses that the configuration and the runtime name";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let settings = settings(request)?;
        for gateway in &settings.unused_gateways {
            eprintln!("static: GATEWAY={gateway} of CNI_ARGS is in the subnet of no address");
        }
        let Settings { ips, routes, dns, .. } = settings;
        Ok(AddResult { ips, routes, dns, ..AddResult::default() })
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let settings = settings(request)?;
        let Some(result) = request.prev_result()? else {
            return Err(Error::internal("Required prevResult missing"));
        };
        drift::compare(&settings, &result, &request.ifname)
    }

    fn del(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    fn gc(&self, _: &Request) -> Result<(), Error> {
        Ok(())
    }

    /// Only what every ADD refuses: the addresses of one are not known before its call.
    fn status(&self, request: &Request) -> Result<(), Error> {
        request.config::<Conf>()?.ensure_complete().map_err(|error| error.to_cni_error())
    }
}

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let args = Args::of(request)?;
    conf.check(request.version, &args).map_err(|error| error.to_cni_error())
}
