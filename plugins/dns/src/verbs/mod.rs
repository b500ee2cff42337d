//! The verbs.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::net::IpAddr;

use cni::Error;
use host::rules::resolver::{self, Permit, Resolver};
use host::rules::{self, is_without_nf_tables};
use nft::Nft;

pub use add::add;
pub use check::check;
pub use del::del;
pub use gc::gc;
pub use status::status;

use crate::record::{Mode, Network, Place};

/// The way from a network's containers to its resolver.
#[derive(Default)]
struct Way {
    /// By which it was made. The later it ends, the less its end waits ([`nft`]).
    _rules: Option<Nft>,
    /// Why the host's firewall may be in it. That is another's to decide, and so no error of ours: whether questions
    /// get through, CHECK finds out.
    closed: Option<sys::Error>,
}

impl Way {
    /// Keeps the way free. A kernel without nf_tables has nothing that could lead elsewhere, unless the resolver has
    /// another port.
    fn keep(network: &Network) -> Result<Self, Error> {
        if network.mode != Mode::Gateway {
            return Ok(Self::default());
        }
        let nft = match rules::open() {
            Err(error) if is_without_nf_tables(&error) && network.port == DNS_PORT => None,
            opened => Some(opened?),
        };
        if let Some(nft) = &nft {
            Resolver { network: &network.name, addresses: &network.listen, port: network.port }.add(nft)?;
        }
        let closed = permit(network).add(nft.as_ref()).err();
        Ok(Self { _rules: nft, closed })
    }
}

fn permit(network: &Network) -> Permit<'_> {
    Permit {
        network: &network.name,
        addresses: &network.listen,
        port: network.port,
        links: &network.ingress,
        subnets: &network.subnets,
    }
}

/// Whoever started the container chose the name, and everybody on the network gets that answer.
fn of_outside(container: &str, name: &str, network: &str) -> String {
    format!(
        "container {container} is called {name}: network {network} does not reach another host of that name \
         (dottedNames: \"refuse\" allows no such names)"
    )
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
    resolver::remove_from_old_tables(name)?;
    place.remove_network(name)?;
    Ok(nft)
}
