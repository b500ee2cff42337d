//! STATUS: whether ADD could be served.

use std::io;
use std::net::{Ipv4Addr, UdpSocket};

use cni::{Code, Error, Request};
use host::rules;

use super::{of_outside, permit};
use crate::config::Config;
use crate::control::Ask;
use crate::record::{self, Mode, Network};
use crate::responder::Responder;
use crate::{names, place, restore};

/// An address of every host that nobody else listens at: what is asked there is the permission, not the port.
/// Not as a text: what reads one looks up names as well, and brings a resolver with it.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// Whether ADD could be served: records can be written, the port may be used, and the network's responder, if it has
/// attachments, is in force.
///
/// # Errors
/// Code 50: not; code 51: not, and attached containers are not served as they should be either.
pub fn status(request: &Request) -> Result<(), Error> {
    let config = Config::of(request)?;
    let (place, socket) = place::here(config.state_dir.as_deref())?;
    let _lock = place.lock().map_err(|error| as_code(Code::NotAvailable, error.into()))?;
    restore::restore(&place).map_err(|error| as_code(Code::LimitedConnectivity, error))?;
    if let Err(error) = UdpSocket::bind((LOOPBACK, config.port))
        && error.kind() == io::ErrorKind::PermissionDenied
    {
        let error = sys::Error::new("listen at port", config.port.to_string(), error);
        return Err(as_code(Code::NotAvailable, error.into()));
    }
    let known = place.scan_network(&request.network)?;
    if let Some(newer) = known.faulty.iter().find(|faulty| matches!(faulty.error, record::Error::Newer(_))) {
        return Err(Error::new(
            Code::LimitedConnectivity,
            format!("record {} is {}", newer.path.display(), newer.error),
        ));
    }
    if known.attachments.is_empty() {
        return Ok(());
    }
    let domain = known.network.as_ref().and_then(|network| network.domain.as_deref());
    for attachment in &known.attachments {
        for name in &attachment.names {
            if names::is_of_outside(name, domain, &request.network) {
                eprintln!("dns: {}", of_outside(&attachment.key.container, name, &request.network));
            }
        }
    }
    let mut responder = Responder::new(&place, socket);
    responder
        .ask(&Ask::Sync { network: request.network.clone(), key: None }, &[])
        .map_err(|error| as_code(Code::LimitedConnectivity, error))?;
    match known.network.filter(|network| network.mode == Mode::Gateway) {
        Some(network) => is_let_in(&network),
        None => Ok(()),
    }
}

/// Whether the host's firewall lets questions in, as far as its own rules tell.
fn is_let_in(network: &Network) -> Result<(), Error> {
    let Ok(nft) = rules::open() else { return Ok(()) };
    match permit(network).drifts(&nft)?.first() {
        None => Ok(()),
        Some(drift) => Err(Error::new(Code::LimitedConnectivity, drift.to_string())
            .details("the next ADD or CHECK of the network gives the permission, if the firewall lets it")),
    }
}

fn as_code(code: Code, error: Error) -> Error {
    Error::new(code, error.msg).details(error.details)
}
