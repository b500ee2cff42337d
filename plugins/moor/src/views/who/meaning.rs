//! What an argument of `who` may mean. All meanings are tried.

use std::net::{IpAddr, SocketAddr};

use netlink::Mac;
use nft::Protocol;

/// A meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An address.
    Address(IpAddr),
    /// A port of the host.
    Port {
        /// The number.
        port: u16,
        /// `tcp`, `udp` or `sctp`; any when it is not named.
        protocol: Option<String>,
        /// The address; any when it is not named.
        address: Option<IpAddr>,
    },
    /// A MAC address.
    Mac(Mac),
    /// The name of a link of this host.
    Link(String),
    /// The index of one.
    Index(u32),
    /// A container: a name, an id, a process, or a namespace.
    Container(String),
}

impl Meaning {
    /// The meanings of a text. A number is a port or an index, and no process.
    pub fn all(text: &str) -> Vec<Self> {
        let mut all = Vec::new();
        all.extend(text.parse().ok().map(|ip: IpAddr| Self::Address(ip.to_canonical())));
        all.extend(text.parse().ok().map(Self::Mac));
        all.extend(port(text));
        all.extend(text.parse().ok().filter(|index| *index != 0).map(Self::Index));
        let is_name =
            !text.is_empty() && text.len() <= 15 && !text.contains('/') && text.parse::<u32>().is_err();
        all.extend(is_name.then(|| Self::Link(text.to_owned())));
        all.push(Self::Container(text.to_owned()));
        all
    }
}

fn port(text: &str) -> Option<Meaning> {
    let (text, protocol) = match text.split_once('/') {
        Some((text, protocol)) => (text, Some(Protocol(Protocol::named(protocol)?).to_string())),
        None => (text, None),
    };
    let (port, address) = match text.parse::<SocketAddr>() {
        Ok(both) => (both.port(), Some(both.ip().to_canonical())),
        Err(_) => (text.parse().ok()?, None),
    };
    let address = address.filter(|address| !address.is_unspecified());
    (port != 0).then_some(Meaning::Port { port, protocol, address })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_its_meanings() {
        let of = |port, protocol: Option<&str>, address: Option<&str>| Meaning::Port {
            port,
            protocol: protocol.map(ToOwned::to_owned),
            address: address.map(|address| address.parse().unwrap()),
        };
        let container = |text: &str| Meaning::Container(text.to_owned());
        assert_eq!(Meaning::all("443"), [of(443, None, None), Meaning::Index(443), container("443")]);
        assert_eq!(Meaning::all("443/UDP"), [of(443, Some("udp"), None), container("443/UDP")]);
        assert_eq!(Meaning::all("10.1.2.3:80")[0], of(80, None, Some("10.1.2.3")));
        assert_eq!(Meaning::all("[fd00::1]:80/tcp")[0], of(80, Some("tcp"), Some("fd00::1")));
        assert_eq!(Meaning::all("10.1.2.3")[0], Meaning::Address("10.1.2.3".parse().unwrap()));
        assert_eq!(Meaning::all("fd00::1")[0], Meaning::Address("fd00::1".parse().unwrap()));
        let mac = "02:00:00:00:00:01";
        assert_eq!(Meaning::all(mac), [Meaning::Mac(mac.parse().unwrap()), container(mac)]);
        assert_eq!(Meaning::all("veth0"), [Meaning::Link("veth0".into()), container("veth0")]);
        assert_eq!(Meaning::all("shop/web"), [container("shop/web")]);
        assert_eq!(Meaning::all("0")[0], container("0"));
    }
}
