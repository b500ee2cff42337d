//! The verbs of the plugin.

mod add;
mod check;
mod del;
mod ipv6;
mod taken;

use cni::{Code, Error, Request};

pub use add::add;
pub use check::check;
pub use del::{del, gc};

use crate::config::{Conf, Identity, Settings};
use crate::keeper;
use crate::record::Store;

/// STATUS: there is a daemon, or one can be started.
pub fn status(request: &Request) -> Result<(), Error> {
    let settings = settings(request)?;
    keeper::ensure(&store(), &settings.socket)
        .map(drop)
        .map_err(|error| Error { code: Code::NotAvailable as u32, ..error })
}

/// Checks the configuration of a request; changes nothing.
///
/// # Errors
/// The configuration is invalid.
pub fn validate(request: &Request) -> Result<(), Error> {
    settings(request).map(drop)
}

fn store() -> Store {
    Store::below("")
}

/// The checked configuration.
fn settings(request: &Request) -> Result<Settings, Error> {
    let conf: Conf = request.config()?;
    let identity = Identity {
        network: &request.network,
        container_id: &request.container_id,
        ifname: &request.ifname,
        args: &request.args,
    };
    conf.check(&identity).map_err(|error| Error::invalid_config(error.to_string()))
}
