//! The verbs.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::net::IpAddr;

use cni::Error;
use host::nft::Nft;
use host::rules::resolver::{self, Resolver};
use host::rules::{self, is_without_nf_tables};

pub use add::add;
pub use check::check;
pub use del::del;
pub use gc::gc;
pub use status::status;

use crate::record::{Mode, Network, Place};

/// Keeps the way to a network's resolver free. A kernel without nf_tables has nothing that could be in the way, unless
/// the resolver has another port.
fn keep_the_way(network: &Network) -> Result<Option<Nft>, Error> {
    if network.mode != Mode::Gateway {
        return Ok(None);
    }
    let nft = match rules::open() {
        Err(error) if is_without_nf_tables(&error) && network.port == DNS_PORT => return Ok(None),
        opened => opened?,
    };
    Resolver { network: &network.name, addresses: &network.listen, port: network.port }.add(&nft)?;
    Ok(Some(nft))
}

/// Where containers ask.
const DNS_PORT: u16 = 53;

/// Takes back everything that a network without attachments has. Gives the socket of the rules back: its end takes
/// time ([`Nft::close_in_background`]).
fn retire_network(place: &Place, name: &str) -> Result<Option<Nft>, Error> {
    let nft = match rules::open() {
        Err(error) if is_without_nf_tables(&error) => None,
        opened => Some(opened?),
    };
    if let Some(nft) = &nft {
        let networks = place.networks()?;
        let listen = |own: bool| -> Vec<IpAddr> {
            let these = networks.iter().filter(|network| (network.name == name) == own);
            these.flat_map(|network| network.listen.iter().copied()).collect()
        };
        resolver::remove(nft, name, &listen(true), &listen(false))?;
    }
    place.remove_network(name)?;
    Ok(nft)
}
