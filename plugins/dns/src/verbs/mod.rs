//! CNI's verbs.

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

use crate::record::{Mode, Network, StateDir};

/// The packet rules for a network's resolver.
#[derive(Default)]
struct ResolverRules {
    /// The socket that installed them. Closing it late shortens the wait ([`nft`]).
    _rules: Option<Nft>,
    /// Why the host's firewall may drop queries. Its owner decides that, so it is no error
    /// here; CHECK finds out whether queries arrive.
    firewall_error: Option<sys::Error>,
}

impl ResolverRules {
    /// Installs the rules. Without nf_tables in the kernel nothing can redirect queries, so
    /// none is needed unless the resolver has another port.
    fn install(network: &Network) -> Result<Self, Error> {
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
        let firewall_error = permit(network).add(nft.as_ref()).err();
        Ok(Self { _rules: nft, firewall_error })
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

/// A warning: whoever starts a container chooses its name, and everybody on the network gets
/// its address for that name.
fn external_name_warning(container: &str, name: &str, network: &str) -> String {
    format!(
        "container {container} is called {name}: network {network} does not reach another host of that name \
         (dottedNames: \"refuse\" allows no such names)"
    )
}

/// The port that containers send queries to.
const DNS_PORT: u16 = 53;

/// Removes the rules and records of a network without attachments. Returns the socket: the longer
/// it stays open, the shorter the wait when it is closed ([`nft`]).
fn remove_network(state_dir: &StateDir, name: &str) -> Result<Option<Nft>, Error> {
    let nft = match rules::open() {
        Err(error) if is_without_nf_tables(&error) => None,
        opened => Some(opened?),
    };
    if let Some(nft) = &nft {
        let networks = state_dir.networks()?;
        let listen = |own: bool| -> Vec<IpAddr> {
            let these = networks.iter().filter(|network| (network.name == name) == own);
            these.flat_map(|network| network.listen.iter().copied()).collect()
        };
        resolver::remove(nft, name, &listen(true), &listen(false))?;
    }
    resolver::remove_from_old_tables(name)?;
    state_dir.remove_network(name)?;
    Ok(nft)
}
