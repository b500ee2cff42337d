//! Published ports, by docker's grammar: `[IP:][HOST[-HOST]:]CTR[-CTR][/PROTO]`.

use std::fmt;
use std::net::IpAddr;
use std::ops::Range;

use serde_json::{Value, json};

/// More ports in one specification than a container has any use for.
const PORTS_MAX: u16 = 1024;

/// Published ports: one, or a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The address of the host; none is every address.
    pub host_ip: Option<IpAddr>,
    /// The first port of the host; none is a free port for each.
    pub host_port: Option<u16>,
    /// The first port of the container.
    pub container_port: u16,
    /// How many ports.
    pub count: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: &'static str,
}

/// Why a specification is wrong, and where.
#[derive(Debug, PartialEq)]
pub struct PublishError {
    spec: String,
    at: Range<usize>,
    why: String,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.spec[..self.at.start].chars().count();
        let marked = self.spec[self.at.clone()].chars().count().max(1);
        write!(f, "{}\n  {}\n  {:before$}{:^<marked$}", self.why, self.spec, "", "")
    }
}

impl std::error::Error for PublishError {}

impl PublishError {
    /// Why it is wrong, without its place.
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl Publish {
    /// Parses a specification.
    pub fn parse(spec: &str) -> Result<Self, PublishError> {
        parse(spec).map_err(|Fault(at, why)| PublishError { spec: spec.to_owned(), at, why })
    }

    /// As long as the container's: the first port of each, and how many there are. For what is not
    /// written in one word.
    pub fn pair(host: Option<&str>, container: &str) -> Result<(Option<u16>, u16, u16), String> {
        let range = |text| parse_ports(Part { text, start: 0 }).map_err(|Fault(_, why)| why);
        let (first, count) = range(container)?;
        match host.map(range).transpose()? {
            Some((_, of_host)) if of_host != count => Err(unequal(of_host, count)),
            host => Ok((host.map(|(first, _)| first), first, count)),
        }
    }

    /// `tcp`, `udp` or `sctp`, in any case.
    pub fn protocol(text: &str) -> Result<&'static str, String> {
        parse_protocol(Part { text, start: 0 }).map_err(|Fault(_, why)| why)
    }

    /// Whether both want a port of the host.
    pub fn collides(&self, other: &Self) -> bool {
        let (Some(one), Some(two)) = (self.host_port, other.host_port) else { return false };
        let addresses = match (self.host_ip, other.host_ip) {
            (Some(one), Some(two)) => one == two || one.is_unspecified() || two.is_unspecified(),
            _ => true,
        };
        // Ports fit 16 bits, and so do the ends of ranges.
        let overlap = one <= two + (other.count - 1) && two <= one + (self.count - 1);
        self.protocol == other.protocol && addresses && overlap
    }

    /// The entries of the capability `portMappings`, one for each port. A host port of 0 asks
    /// portmap for a free one.
    pub fn mappings(&self) -> impl Iterator<Item = Value> + '_ {
        (0..self.count).map(|step| {
            let mut entry = json!({
                "hostPort": self.host_port.map_or(0, |first| first + step),
                "containerPort": self.container_port + step,
                "protocol": self.protocol,
            });
            if let (Some(ip), Value::Object(keys)) = (self.host_ip, &mut entry) {
                keys.insert("hostIP".into(), ip.to_string().into());
            }
            entry
        })
    }
}

/// As `-p` of docker, podman and nerdctl takes it.
impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |first: u16| match self.count {
            1 => first.to_string(),
            count => format!("{first}-{}", first + (count - 1)),
        };
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        match self.host_port {
            Some(first) => write!(f, "{}:", range(first))?,
            None if self.host_ip.is_some() => f.write_str(":")?,
            None => {}
        }
        f.write_str(&range(self.container_port))?;
        if self.protocol == "tcp" { Ok(()) } else { write!(f, "/{}", self.protocol) }
    }
}

fn unequal(of_host: u16, of_container: u16) -> String {
    format!("{of_host} ports of the host cannot lead to {of_container} of the container")
}

/// Where, and why.
struct Fault(Range<usize>, String);

/// A part of the specification: its text, and where it begins.
#[derive(Clone, Copy)]
struct Part<'s> {
    text: &'s str,
    start: usize,
}

impl<'s> Part<'s> {
    fn fault(self, why: impl Into<String>) -> Fault {
        Fault(self.start..self.start + self.text.len(), why.into())
    }

    /// The parts before and after the byte at `position`, which is one of ASCII.
    fn split(self, position: usize) -> (Self, Self) {
        let after = position + 1;
        (
            Self { text: &self.text[..position], ..self },
            Self { text: &self.text[after..], start: self.start + after },
        )
    }
}

fn parse(spec: &str) -> Result<Publish, Fault> {
    let whole = Part { text: spec, start: 0 };
    let (rest, protocol) = match spec.rfind('/') {
        Some(slash) => {
            let (rest, protocol) = whole.split(slash);
            (rest, parse_protocol(protocol)?)
        }
        None => (whole, "tcp"),
    };
    let (before, container) = match rest.text.rfind(':') {
        Some(colon) => {
            let (before, container) = rest.split(colon);
            (Some(before), container)
        }
        None => (None, rest),
    };
    if container.text.is_empty() {
        return Err(Fault(container.start..container.start, "the container's port is missing".into()));
    }
    let (container_port, count) = parse_ports(container)?;
    let (host_ip, host) = match before {
        None => (None, None),
        Some(before) => parse_host(before)?,
    };
    let host_port = match host {
        None => None,
        Some(part) => {
            let (first, of_host) = parse_ports(part)?;
            if of_host != count {
                let both = Part { text: &spec[part.start..container.start + container.text.len()], ..part };
                return Err(both.fault(unequal(of_host, count)));
            }
            Some(first)
        }
    };
    Ok(Publish { host_ip, host_port, container_port, count, protocol })
}

/// What stands before the container's port: `HOST`, `IP:`, or `IP:HOST`.
fn parse_host(part: Part<'_>) -> Result<(Option<IpAddr>, Option<Part<'_>>), Fault> {
    let Some(colon) = part.text.rfind(':') else {
        if part.text.is_empty() {
            return Err(Fault(
                part.start..part.start + 1,
                "the host's port is missing before the colon".into(),
            ));
        }
        return Ok((None, Some(part)));
    };
    let (ip, port) = part.split(colon);
    let ip = parse_ip(ip)?;
    Ok((Some(ip), Some(port).filter(|port| !port.text.is_empty())))
}

fn parse_ip(part: Part<'_>) -> Result<IpAddr, Fault> {
    let bare = part.text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match (bare, part.text.contains(':')) {
        (Some(bare), _) => bare.parse().ok().filter(IpAddr::is_ipv6),
        (None, true) => return Err(part.fault("an IPv6 address stands in brackets, as in [::1]:8080:80")),
        (None, false) => part.text.parse().ok(),
    }
    .ok_or_else(|| part.fault("expected an address of the host"))
}

/// The first port, and how many there are.
fn parse_ports(part: Part<'_>) -> Result<(u16, u16), Fault> {
    let Some(hyphen) = part.text.find('-') else { return Ok((parse_port(part)?, 1)) };
    let (first, last) = part.split(hyphen);
    let (first, last) = (parse_port(first)?, parse_port(last)?);
    match last.checked_sub(first) {
        None => Err(part.fault("the range ends before it begins")),
        Some(more) if more >= PORTS_MAX => Err(part.fault(format!("more than {PORTS_MAX} ports"))),
        Some(more) => Ok((first, more + 1)),
    }
}

fn parse_port(part: Part<'_>) -> Result<u16, Fault> {
    if part.text.is_empty() {
        return Err(part.fault("a port is missing"));
    }
    if !part.text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(part.fault("expected a port from 1 to 65535"));
    }
    match part.text.parse() {
        Ok(0) => Err(part.fault("there is no port 0; without a host's port, a free one is chosen")),
        Ok(port) => Ok(port),
        Err(_) => Err(part.fault("expected a port from 1 to 65535")),
    }
}

fn parse_protocol(part: Part<'_>) -> Result<&'static str, Fault> {
    let known = ["tcp", "udp", "sctp"].into_iter().find(|known| part.text.eq_ignore_ascii_case(known));
    known.ok_or_else(|| part.fault("the protocol is tcp, udp or sctp"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn any_publish()(
            host_ip in any::<Option<IpAddr>>(),
            host_port in proptest::option::of(1..=60000u16),
            container_port in 1..=60000u16,
            count in 1..=PORTS_MAX,
            protocol in proptest::sample::select(vec!["tcp", "udp", "sctp"]),
        ) -> Publish {
            Publish { host_ip, host_port, container_port, count, protocol }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed_the_same(publish in any_publish()) {
            prop_assert_eq!(Publish::parse(&publish.to_string()), Ok(publish));
        }

        #[test]
        fn any_text_is_parsed_or_its_fault_marked(text in r"[\[\]:/\-0-9a-f.tcpudé]{0,24}|\PC{0,24}") {
            if let Err(error) = Publish::parse(&text) {
                prop_assert!(error.at.end <= text.len().max(1), "{:?}", error);
                prop_assert!(error.to_string().contains('^'));
            }
        }
    }

    #[test]
    fn the_forms_of_docker_are_understood() {
        let one = |spec: &str| {
            let publish = Publish::parse(spec).unwrap();
            let ip = publish.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
            (ip, publish.host_port, publish.container_port, publish.count, publish.protocol)
        };
        assert_eq!(one("80"), (String::new(), None, 80, 1, "tcp"));
        assert_eq!(one("8080:80"), (String::new(), Some(8080), 80, 1, "tcp"));
        assert_eq!(one("53:53/UDP"), (String::new(), Some(53), 53, 1, "udp"));
        assert_eq!(one("127.0.0.1:8080:80"), ("127.0.0.1".into(), Some(8080), 80, 1, "tcp"));
        assert_eq!(one("127.0.0.1::80"), ("127.0.0.1".into(), None, 80, 1, "tcp"));
        assert_eq!(one("[::]:80:80"), ("::".into(), Some(80), 80, 1, "tcp"));
        assert_eq!(one("8080-8082:80-82"), (String::new(), Some(8080), 80, 3, "tcp"));
        let range = Publish::parse("127.0.0.1:8080-8081:80-81/udp").unwrap();
        let expected =
            json!({"hostIP": "127.0.0.1", "hostPort": 8081, "containerPort": 81, "protocol": "udp"});
        assert_eq!(range.mappings().last(), Some(expected));
    }

    #[test]
    fn ports_collide_on_one_address_and_protocol() {
        let collide =
            |one: &str, two: &str| Publish::parse(one).unwrap().collides(&Publish::parse(two).unwrap());
        assert!(collide("80:80", "127.0.0.1:80:8080") && collide("80-90:80-90", "85:1"));
        assert!(!collide("80:80", "80:80/udp") && !collide("127.0.0.1:80:80", "127.0.0.2:80:80"));
        assert!(!collide("80", "80:80"));
    }

    #[test]
    fn a_fault_is_shown_at_its_place() {
        for (spec, mark, why) in [
            ("0:80", "^", "no port 0"),
            ("80:", "   ^", "container's port is missing"),
            (":80", "^", "host's port is missing"),
            ("70000:80", "^^^^^", "1 to 65535"),
            ("8080:80/xyz", "        ^^^", "tcp, udp or sctp"),
            ("8080-8082:80-81", "^^^^^^^^^^^^^^^", "3 ports of the host"),
            ("8082-8080:80", "^^^^^^^^^", "ends before"),
            ("::1:80:80", "^^^", "brackets"),
            ("nowhere:80:80", "^^^^^^^", "address of the host"),
            ("", "^", "container's port is missing"),
        ] {
            let shown = Publish::parse(spec).unwrap_err().to_string();
            assert!(shown.contains(why) && shown.ends_with(&format!("\n  {mark}")), "{spec}: {shown}");
        }
    }
}
