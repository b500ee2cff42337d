//! `tuning`: sets kernel parameters of a container's network namespace and settings of its link,
//! and sets them back. A chained plugin: the plugin before it has made the link.

mod add;
mod allow_list;
mod backup;
mod check;
mod config;
mod container;
mod del;
mod parameter;
mod plan;
mod record;
mod store;
#[cfg(test)]
mod tests;
mod text;

use cni::{AddResult, Code, Error, Plugin, Request};

pub use crate::config::{Config, KEYS};

/// The plugin.
pub struct Tuning;

impl Plugin for Tuning {
    const NAME: &'static str = "tuning";
    const ABOUT: &'static str = "sets kernel parameters and link settings of a container";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let config = Config::of(request)?;
        let previous = previous(request)?;
        previous.convertible_to(request.version)?;
        if config.is_empty() {
            return Ok(previous);
        }
        allow_list::check(&config.parameters)?;
        add::add(request, &config, previous)
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        previous(request)?;
        if config.is_empty() {
            return Ok(());
        }
        check::check(request, config)
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        del::del(request)
    }

    fn gc(&self, request: &Request) -> Result<(), Error> {
        del::gc(request)
    }

    fn status(&self, request: &Request) -> Result<(), Error> {
        let config = Config::of(request)?;
        allow_list::check(&config.parameters)
            .map_err(|error| Error { code: Code::NotAvailable as u32, ..error })
    }
}

fn previous(request: &Request) -> Result<AddResult, Error> {
    let missing = || Error::invalid_config("Required prevResult missing");
    request.prev_result()?.ok_or_else(missing)
}
