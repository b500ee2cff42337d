//! How packets reach the outside: `ipMasq`, `ipMasqBackend` and `fastPath`.

use cni::keys::{Key, Kind, key};
use cni::{Code, Error, Request, shortened};
use host::piece::{FastPath, Kernel, Masquerade, MasqueradeChain, Piece};
use host::{Owner, iptables, rules};
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    ip_masq: Option<bool>,
    ip_masq_backend: Option<String>,
    fast_path: Option<bool>,
}

/// The keys, and their values.
pub const KEYS: &[Key] = &[
    key("ipMasq", Kind::Bool),
    key("ipMasqBackend", Kind::OneOf(&["iptables", "nftables"])),
    key("fastPath", Kind::Bool),
];

/// What translates the container's addresses to the host's for the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerading {
    /// Nothing: the outside sees the container's address.
    No,
    /// Maps of nf_tables.
    NfTables,
    /// The reference's chains of iptables.
    Iptables,
}

/// How packets reach the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outside {
    /// The outside sees the host's address instead of the container's.
    pub masquerade: Masquerading,
    /// Established connections bypass the rules.
    pub fast_path: bool,
}

impl Outside {
    /// Reads and checks the keys. Without an IPAM plugin nothing is masqueraded.
    ///
    /// # Errors
    /// Code 7 for an unknown back end, or `fastPath` without masquerade; 999 for a value of another
    /// type.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let layer3 = crate::ipam_type(request)?.is_some();
        let masquerade =
            masquerade(layer3 && conf.ip_masq.unwrap_or(false), conf.ip_masq_backend.as_deref())?;
        let fast_path = conf.fast_path.unwrap_or(false);
        if fast_path && masquerade == Masquerading::No {
            return Err(Error::invalid_config(
                "fastPath needs ipMasq: no other connection of this plugin has rules to bypass",
            ));
        }
        Ok(Self { masquerade, fast_path })
    }

    /// Whether it needs rules of nf_tables.
    pub fn needs_rules(self) -> bool {
        self.masquerade == Masquerading::NfTables || self.fast_path
    }

    /// ADD, before any change: opens what it needs of the host.
    ///
    /// # Errors
    /// The host lacks it.
    pub fn prepare(self, kernel: &mut Kernel) -> Result<(), Error> {
        if self.needs_rules() {
            kernel.nft()?;
        }
        if self.fast_path {
            rules::FastPath::require(kernel.nft()?)?;
        }
        if self.masquerade == Masquerading::Iptables {
            iptables::is_installed()?;
        }
        Ok(())
    }

    /// STATUS: whether the host has what it needs.
    ///
    /// # Errors
    /// Code 50 if not.
    pub fn require(self) -> Result<(), Error> {
        let unavailable = |error| Error::new(Code::NotAvailable, format!("{error:#}"));
        if self.needs_rules() {
            let nft = rules::open().map_err(unavailable)?;
            if self.fast_path {
                rules::FastPath::require(&nft).map_err(unavailable)?;
            }
        }
        if self.masquerade == Masquerading::Iptables {
            iptables::is_installed().map_err(unavailable)?;
        }
        Ok(())
    }

    /// The pieces for the addresses `own` of a container behind the host's `link`. All known
    /// subnets of the attachment and its network are inside (`gateways`), even those of which it
    /// has no address. Pure.
    pub fn pieces(self, owner: &Owner, own: &[IpNetwork], gateways: &[IpNetwork], link: &str) -> Vec<Piece> {
        let mut pieces = Vec::new();
        if own.is_empty() {
            return pieces;
        }
        let addresses: Vec<_> = own.iter().map(IpNetwork::ip).collect();
        match self.masquerade {
            Masquerading::No => {}
            Masquerading::NfTables => {
                let subnets = own.iter().chain(gateways);
                let mut inside: Vec<IpNetwork> =
                    subnets.filter_map(|net| IpNetwork::new(net.network(), net.prefix()).ok()).collect();
                inside.sort();
                inside.dedup();
                let (owner, addresses) = (owner.clone(), addresses.clone());
                pieces.push(Piece::Masquerade(Masquerade { owner, addresses, inside }));
            }
            Masquerading::Iptables => {
                let (owner, addresses) = (owner.clone(), own.to_vec());
                pieces.push(Piece::MasqueradeChain(MasqueradeChain { owner, addresses }));
            }
        }
        if self.fast_path {
            let (owner, links) = (owner.clone(), vec![link.to_owned()]);
            pieces.push(Piece::FastPath(FastPath { owner, addresses, links }));
        }
        pieces
    }
}

/// The back end of masquerade: nf_tables, unless the configuration names iptables.
fn masquerade(wanted: bool, backend: Option<&str>) -> Result<Masquerading, Error> {
    match (wanted, backend) {
        (false, _) => Ok(Masquerading::No),
        (true, None | Some("" | "nftables")) => Ok(Masquerading::NfTables),
        (true, Some("iptables")) => Ok(Masquerading::Iptables),
        (true, Some(other)) => Err(Error::invalid_config(format!(
            "unknown ipmasq backend \"{}\"",
            shortened(other).escape_debug()
        ))),
    }
}
