//! STATUS: whether ADD would succeed.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use cni::{Code, Error, Request};
use host::rules;

use super::{external_name_warning, permit};
use crate::config::Config;
use crate::control::ControlRequest;
use crate::record::{self, Mode, Network};
use crate::responder::ResponderClient;
use crate::{locate, restore};

/// An address of every host at which nobody else listens: binding it tests the permission, not
/// the port. No text: parsing an address with std's resolver makes the executable larger.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Whether ADD would succeed: records can be written, the port may be used, and the responder
/// serves the network's attachments.
///
/// # Errors
/// Code 50: it would not. Code 51: attached containers are affected too.
pub fn status(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let (state_dir, socket) = locate::state_dir(config.state_dir.as_deref())?;
    let _lock = state_dir.lock().map_err(|error| as_code(Code::NotAvailable, error.into()))?;
    restore::restore(&state_dir).map_err(|error| as_code(Code::LimitedConnectivity, error))?;
    if let Err(error) = UdpSocket::bind((LOOPBACK, config.port))
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let error = sys::Error::new("listen at port", config.port.to_string(), error);
        return Err(as_code(Code::NotAvailable, error.into()));
    }
    let known = state_dir.scan_network(&request.network)?;
    if let Some(newer) =
        known.unreadable.iter().find(|unreadable| matches!(unreadable.error, record::Error::Newer(_)))
    {
        return Err(Error::new(
            Code::LimitedConnectivity,
            format!("record {}: {}", newer.path.display(), newer.error),
        ));
    }
    if known.attachments.is_empty() {
        return Ok(());
    }
    let domain = known.network.as_ref().and_then(|network| network.domain.as_deref());
    for attachment in &known.attachments {
        for name in &attachment.names {
            if names::is_external(name, domain, &request.network) {
                eprintln!(
                    "dns: {}",
                    external_name_warning(&attachment.key.container, name, &request.network)
                );
            }
        }
    }
    let mut responder = ResponderClient::new(&state_dir, socket);
    responder
        .call(&ControlRequest::Sync { network: request.network.clone(), key: None }, &[])
        .map_err(|error| as_code(Code::LimitedConnectivity, error))?;
    match known.network.filter(|network| network.mode == Mode::Gateway) {
        Some(network) => check_firewall(&network),
        None => Ok(()),
    }
}

/// Whether the host's firewall accepts queries, as far as its rules show.
fn check_firewall(network: &Network) -> Result<(), Error> {
    let Ok(nft) = rules::open() else { return Ok(()) };
    match permit(network).drifts(&nft)?.first() {
        None => Ok(()),
        Some(drift) => Err(Error::new(Code::LimitedConnectivity, drift.to_string())
            .details("the next ADD or CHECK of the network adds the rule, if the firewall allows it")),
    }
}

fn as_code(code: Code, error: Error) -> Error {
    Error::new(code, error.msg).details(error.details)
}
