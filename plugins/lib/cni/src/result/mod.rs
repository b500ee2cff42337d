//! The result of ADD, in the newest format.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use serde::{Deserialize, Deserializer};

use crate::json::{Json, Style};
use crate::version::Format;
use crate::{Error, Version};

mod read;
mod write;

/// The result of ADD, in the format of 1.0.0 and 1.1.0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddResult {
    /// The links that were created or are used, host side first.
    pub interfaces: Vec<Interface>,
    /// The addresses.
    pub ips: Vec<IpConfig>,
    /// The routes of the container.
    pub routes: Vec<Route>,
    /// The resolver configuration.
    pub dns: Dns,
}

/// A link of the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// The link's name; always printed.
    pub name: String,
    /// Its MAC address, as text.
    pub mac: Option<String>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The namespace path, for a link in a container.
    pub sandbox: Option<String>,
    /// The vhost-user socket.
    pub socket_path: Option<String>,
    /// The PCI id of a device.
    pub pci_id: Option<String>,
}

/// An address of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// Index into [`AddResult::interfaces`].
    pub interface: Option<usize>,
    /// The address with its host bits and prefix length.
    pub address: IpNetwork,
    /// The gateway.
    pub gateway: Option<IpAddr>,
}

/// A route of the result. For `table` and `scope`, zero differs from unset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination, host bits kept.
    pub dst: IpNetwork,
    /// The next hop.
    pub gw: Option<IpAddr>,
    /// RTAX_MTU in bytes; 0 is unset.
    pub mtu: u32,
    /// RTAX_ADVMSS in bytes; 0 is unset.
    pub advmss: u32,
    /// The metric; 0 is unset.
    pub priority: u32,
    /// The routing table.
    pub table: Option<u32>,
    /// rtm_scope.
    pub scope: Option<u8>,
}

/// The resolver configuration of the result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Server addresses, as text.
    pub nameservers: Vec<String>,
    /// The local domain.
    pub domain: String,
    /// Search domains.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

impl AddResult {
    /// Checks that this result can be printed in that version; the error is the reference's.
    /// Versions before 0.3.0 need an address (C-062); anything else that they have no key for is
    /// omitted.
    pub fn convertible_to(&self, version: Version) -> Result<(), Error> {
        match version.format() {
            Format::V0_2 if self.ips.is_empty() => {
                Err(Error::internal("cannot convert: no valid IP addresses")
                    .details(format!("a result of version {version} needs an address")))
            }
            _ => Ok(()),
        }
    }

    /// Prints the result in that version: indented, without a newline at the end (C-004).
    ///
    /// # Errors
    /// See [`AddResult::convertible_to`].
    pub fn print(&self, version: Version) -> Result<Vec<u8>, Error> {
        self.convertible_to(version)?;
        Ok(write::tree(self, version).print(Style::Indented))
    }

    /// Reads a result of any version; `fallback` is the version of one that names none (C-083).
    ///
    /// # Errors
    /// The text is not JSON, a value has the wrong type, or `unsupported CNI result version`.
    pub fn parse(text: &[u8], fallback: Version) -> Result<Self, Error> {
        let tree = Json::parse(text)?;
        let version = read::version(&tree, fallback, None)?;
        Ok(read::result(&tree, version)?)
    }

    /// Reads a `prevResult`, which must have the format of the configuration's version (C-120).
    pub(crate) fn of_previous(tree: &Json, version: Version) -> Result<Self, Error> {
        const KEY: &str = "prevResult";
        let own = read::version(tree, version, Some(KEY))?;
        if own.format() != version.format() {
            let versions: Vec<_> = Version::ALL.iter().filter(|v| v.format() == version.format()).collect();
            let versions: Vec<_> = versions.iter().map(|v| v.as_str()).collect();
            return Err(Error::internal(format!(
                "result type supports [{}] but unmarshalled CNIVersion is \"{own}\"",
                versions.join(" ")
            )));
        }
        read::result(tree, own).map_err(|error| error.below(KEY).into())
    }
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.nameservers.is_empty()
            && self.domain.is_empty()
            && self.search.is_empty()
            && self.options.is_empty()
    }
}

/// The format of routes in configurations and results.
impl<'de> Deserialize<'de> for Route {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read::route(deserializer)
    }
}

/// The format of `dns` in configurations and results.
impl<'de> Deserialize<'de> for Dns {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read::dns(deserializer)
    }
}

#[cfg(test)]
mod tests;
