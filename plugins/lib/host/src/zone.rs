//! A zone of firewalld, as records know it.

use std::net::IpAddr;

/// A zone with addresses of an attachment, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// The zone.
    pub name: String,
    /// Whether its sources are wanted: before ADD has made all of them, and from the begin of DEL,
    /// they are not restored.
    pub settled: bool,
    /// The addresses.
    pub sources: Vec<Source>,
}

/// An address in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// Whether this suite made it a source.
    pub is_ours: bool,
}

impl Zone {
    /// The addresses that this suite made sources.
    pub(crate) fn ours(&self) -> impl Iterator<Item = IpAddr> {
        self.sources.iter().filter(|source| source.is_ours).map(|source| source.address)
    }
}
