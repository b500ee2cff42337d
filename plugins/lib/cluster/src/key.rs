//! The keys of records in etcd, below `<prefix>/1/`.

use std::net::IpAddr;

/// Names an attachment of a network on a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The host's id, 16 hex digits.
    pub host: String,
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

/// A key, without the prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// `meta`: see [`crate::record::Meta`].
    Meta,
    /// `host/<host>`: see [`crate::record::Host`].
    Host(String),
    /// `alive/<host>`: see [`crate::record::Alive`].
    Alive(String),
    /// `silent/<host>`: see [`crate::record::Silent`].
    Silent(String),
    /// `grace/<host>`: see [`crate::record::Grace`].
    Grace(String),
    /// `net/<network>`: see [`crate::record::Net`].
    Net(String),
    /// `vni/<id>`: see [`crate::record::Vni`].
    Vni(u32),
    /// `blk/<network>/<first address>`: see [`crate::record::Block`].
    Block {
        /// The network's name.
        network: String,
        /// The block's first address.
        first: IpAddr,
    },
    /// `lent/<network>/<address>`: see [`crate::record::Lent`].
    Lent {
        /// The network's name.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// `own/<network>/<host>`: see [`crate::record::Own`].
    Own {
        /// The network's name.
        network: String,
        /// The host's id.
        host: String,
    },
    /// `ask/<network>/<address or any>/<host>`: see [`crate::record::Ask`].
    Ask {
        /// The network's name.
        network: String,
        /// The address; `None` is `any`.
        address: Option<IpAddr>,
        /// Who asks.
        host: String,
    },
    /// `ep/<network>/<host>/<container>@<ifname>`: see [`crate::record::EndpointRecord`].
    Endpoint(Endpoint),
}
