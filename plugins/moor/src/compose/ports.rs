//! Published ports: `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, ranges, and the long form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::yaml::{Fault, Node, Place, Value};

use super::keys::ensure_known;

const KEYS: [&str; 7] = ["app_protocol", "host_ip", "mode", "name", "protocol", "published", "target"];

/// Ports of a container, and where they are published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Where it stands.
    pub at: Place,
    /// The ports.
    pub ports: Ports,
}

/// Ports of a container, and those of the host that lead to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The host's address; none means all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's ports; none means random ones.
    pub host: Option<Range>,
    /// The container's ports.
    pub container: Range,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl Ports {
    /// Whether both want a port of the host.
    pub fn collide(&self, other: &Self) -> bool {
        let (Some(one), Some(two)) = (self.host, other.host) else { return false };
        let addresses = match (self.host_ip, other.host_ip) {
            (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
            _ => true,
        };
        self.protocol == other.protocol && addresses && one.first <= two.last && two.first <= one.last
    }

    /// Whether the ports of host and container are equally many.
    fn checked(self) -> Result<Self, String> {
        match self.host {
            Some(host) if host.last - host.first != self.container.last - self.container.first => {
                Err(format!("{host} and {} are not equally many ports", self.container))
            }
            _ => Ok(self),
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last > self.first { write!(f, "-{}", self.last) } else { Ok(()) }
    }
}

/// As `-p` of docker, podman and nerdctl takes it.
impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host_ip, self.host) {
            (Some(IpAddr::V6(ip)), _) => write!(f, "[{ip}]:")?,
            (Some(ip), _) => write!(f, "{ip}:")?,
            _ => {}
        }
        match self.host {
            Some(host) => write!(f, "{host}:")?,
            None if self.host_ip.is_some() => f.write_str(":")?,
            None => {}
        }
        write!(f, "{}", self.container)?;
        if self.protocol == "tcp" { Ok(()) } else { write!(f, "/{}", self.protocol) }
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            _ => Err(format!("{text:?} is no port from 1 to 65535")),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: port(first)?, last: port(last)? };
        if range.first > range.last { Err(format!("the range {text:?} is empty")) } else { Ok(range) }
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, name) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol(name)?;
        let (rest, container) = rest.rsplit_once(':').map_or((None, rest), |(rest, last)| (Some(rest), last));
        let container = container.parse()?;
        let Some(rest) = rest else { return Ok(Self { host_ip: None, host: None, container, protocol }) };
        let (ip, host) = match rest.rsplit_once(':') {
            Some((ip, host)) => (Some(ip), host),
            None => (None, rest),
        };
        let host_ip = ip.map(address).transpose()?;
        let host = if host.is_empty() && host_ip.is_some() { None } else { Some(host.parse()?) };
        Self { host_ip, host, container, protocol }.checked()
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match (bare, bare.unwrap_or(text).parse::<IpAddr>()) {
        (None, Ok(IpAddr::V6(ip))) => Err(format!("write the address as [{ip}]")),
        (Some(_), Ok(IpAddr::V4(_))) | (_, Err(_)) => Err(format!("{text:?} is no address")),
        (_, Ok(ip)) => Ok(ip),
    }
}

fn protocol(text: &str) -> Result<&'static str, String> {
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| *known == text);
    known.ok_or_else(|| format!("{text:?} is no protocol of tcp, udp, sctp"))
}

/// Reads an entry of `ports`.
pub fn read(node: &Node) -> Result<Published, Fault> {
    let ports = match &node.value {
        Value::Map(_) => long(node)?,
        _ => {
            let text = node.text("an entry of \"ports\"")?;
            text.parse().map_err(|what| Fault::new(node.at, format!("{text:?}: {what}")))?
        }
    };
    Ok(Published { at: node.at, ports })
}

fn long(node: &Node) -> Result<Ports, Fault> {
    let map = node.map("an entry of \"ports\"")?;
    ensure_known(map, &KEYS)?;
    let Some(target) = map.get("target") else {
        return Err(Fault::new(node.at, "an entry of \"ports\" needs a \"target\""));
    };
    let range = |node: &Node, what: &str| -> Result<Range, Fault> {
        node.text(what)?.parse().map_err(|text: String| Fault::new(node.at, text))
    };
    let word = |key: &str| map.get(key).map(|node| Ok((node.at, node.text(key)?))).transpose();
    let host_ip = match word("host_ip")? {
        Some((at, text)) => {
            Some(text.parse().map_err(|_| Fault::new(at, format!("{text:?} is no address")))?)
        }
        None => None,
    };
    let protocol = match word("protocol")? {
        Some((at, text)) => protocol(text).map_err(|text| Fault::new(at, text))?,
        None => "tcp",
    };
    let host = map.get("published").filter(|node| !matches!(node.text(""), Ok("")));
    let host = host.map(|node| range(node, "\"published\"")).transpose()?;
    let ports = Ports { host_ip, host, container: range(target, "\"target\"")?, protocol };
    ports.checked().map_err(|text| Fault::new(node.at, text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_printed_as_docker_has_them() {
        for text in
            ["80", "8080:80", "127.0.0.1:8080:80", "[::1]:80:80/udp", "8000-8002:80-82", "127.0.0.1::80"]
        {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
        assert_eq!("53:53/tcp".parse::<Ports>().unwrap().to_string(), "53:53");
    }

    #[test]
    fn faults_of_ports_show_what_is_wrong() {
        for (text, fault) in [
            ("0:80", "\"0\" is no port from 1 to 65535"),
            ("80:", "\"\" is no port from 1 to 65535"),
            (":80", "\"\" is no port from 1 to 65535"),
            ("70000:80", "\"70000\" is no port from 1 to 65535"),
            ("+80:80", "\"+80\" is no port from 1 to 65535"),
            ("8080:80/xyz", "\"xyz\" is no protocol of tcp, udp, sctp"),
            ("8000-8002:80-81", "8000-8002 and 80-81 are not equally many ports"),
            ("82-80", "the range \"82-80\" is empty"),
            ("::1:80:80", "write the address as [::1]"),
            ("[::]x:80:80", "\"[::]x\" is no address"),
            ("a:80:80", "\"a\" is no address"),
        ] {
            assert_eq!(text.parse::<Ports>().unwrap_err(), fault, "{text}");
        }
    }

    #[test]
    fn ports_collide_on_one_address_and_protocol() {
        let collide = |one: &str, two: &str| one.parse::<Ports>().unwrap().collide(&two.parse().unwrap());
        assert!(collide("80:80", "127.0.0.1:80:8080") && collide("80-90:80-90", "85:1"));
        assert!(!collide("80:80", "80:80/udp") && !collide("127.0.0.1:80:80", "127.0.0.2:80:80"));
        assert!(!collide("80", "80:80"));
    }
}
