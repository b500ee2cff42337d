//! What is asked of one attachment, for `run` and `network connect`: addresses, MAC, aliases. It
//! becomes the parameters of ADD.

use std::net::IpAddr;

use runtime::{Attachment, Conflist};
use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// The longest name of a container or an alias.
const NAME_MAX: usize = 253;

/// An attachment that is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoint {
    /// The network's name.
    pub network: String,
    /// The addresses, of different families.
    pub addresses: Vec<Address>,
    /// The MAC address.
    pub mac: Option<String>,
    /// More names, on this network.
    pub aliases: Vec<String>,
    /// The network with the highest one gives the default route.
    pub gateway_priority: i64,
}

/// The container, as plugins learn of it.
#[derive(Clone, Copy, Debug)]
pub struct Container<'c> {
    /// The id.
    pub id: &'c str,
    /// The name that a person gave it.
    pub name: Option<&'c str>,
    /// The path of its network namespace.
    pub netns: &'c str,
}

/// Name servers that are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolver {
    /// The servers' addresses.
    pub servers: Vec<String>,
    /// Domains that names are looked for in.
    pub searches: Vec<String>,
    /// Options of resolv.conf(5).
    pub options: Vec<String>,
}

/// An address, with or without the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Address {
    ip: IpAddr,
    prefix: Option<u8>,
}

impl Address {
    fn text(&self) -> String {
        self.prefix.map_or_else(|| self.ip.to_string(), |prefix| format!("{}/{prefix}", self.ip))
    }
}

/// Parses an IPv4 address.
pub fn parse_v4(text: &str) -> Result<Address, String> {
    let address = parse(text)?;
    if address.ip.is_ipv4() { Ok(address) } else { Err("an IPv6 address; that is --ip6".into()) }
}

/// Parses an IPv6 address.
pub fn parse_v6(text: &str) -> Result<Address, String> {
    let address = parse(text)?;
    if address.ip.is_ipv6() { Ok(address) } else { Err("an IPv4 address; that is --ip".into()) }
}

fn parse(text: &str) -> Result<Address, String> {
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip: IpAddr = ip.parse().map_err(|_| "expected an address, such as 10.90.1.5 or fd00::5")?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err("no address that a container can have".into());
    }
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map(|length| length.parse().ok().filter(|length| (1..=longest).contains(length)));
    match prefix {
        Some(None) => Err(format!("the length of the prefix is from 1 to {longest}")),
        prefix => Ok(Address { ip, prefix: prefix.flatten() }),
    }
}

/// Parses a MAC address: six pairs of hexadecimal digits, with colons or hyphens.
pub fn parse_mac(text: &str) -> Result<String, String> {
    let pairs: Vec<_> = text.split([':', '-']).collect();
    let is_pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pairs.len() != 6 || !pairs.iter().all(is_pair) {
        return Err("expected a MAC address, such as 02:42:ac:11:00:02".into());
    }
    Ok(pairs.join(":").to_ascii_lowercase())
}

/// Parses a name of a container or an alias.
pub fn parse_name(text: &str) -> Result<String, String> {
    let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match text.bytes().next() {
        Some(first) if first.is_ascii_alphanumeric() && text.bytes().all(is_usual) => {}
        _ => return Err("a name begins with a letter or a digit; then also `_`, `.` and `-`".into()),
    }
    if text.len() > NAME_MAX { Err(format!("longer than {NAME_MAX} characters")) } else { Ok(text.into()) }
}

/// Parses `--network`: a name, or docker's long form, `name=front,ip=10.90.1.5,alias=www`.
pub fn parse_network(text: &str) -> Result<Endpoint, String> {
    let mut endpoint = Endpoint::default();
    if !text.contains('=') {
        endpoint.network = text.into();
        return network_named(endpoint);
    }
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is no KEY=VALUE"))?;
        match key {
            "name" => endpoint.network = value.into(),
            "ip" => endpoint.addresses.push(parse_v4(value)?),
            "ip6" => endpoint.addresses.push(parse_v6(value)?),
            "mac-address" => endpoint.mac = Some(parse_mac(value)?),
            "alias" => endpoint.aliases.push(parse_name(value)?),
            "gw-priority" => {
                endpoint.gateway_priority = value.parse().map_err(|_| format!("{value:?} is no number"))?;
            }
            "driver-opt" => return Err("driver-opt: keys of the conflist have its place".into()),
            "link-local-ip" => return Err("link-local-ip: the kernel gives IPv6 links theirs".into()),
            _ => return Err(unknown_key(key)),
        }
    }
    network_named(endpoint)
}

fn network_named(endpoint: Endpoint) -> Result<Endpoint, String> {
    if endpoint.network.is_empty() { Err("the network's name is missing".into()) } else { Ok(endpoint) }
}

fn unknown_key(key: &str) -> String {
    let known = ["name", "ip", "ip6", "mac-address", "alias", "gw-priority"];
    match crate::suggest::nearest(key, known) {
        Some(meant) => format!("unknown key {key:?}: did you mean {meant:?}?"),
        None => format!("unknown key {key:?}; the keys are {}", known.join(", ")),
    }
}

/// Whether a plugin of the list declares the capability.
pub fn has_capability(list: &Conflist, name: &str) -> bool {
    list.plugins.iter().any(|plugin| plugin.capabilities.get(name) == Some(&true))
}

impl Endpoint {
    /// The parameters of ADD, without published ports.
    ///
    /// # Errors
    /// The list cannot take what was asked for.
    pub fn attachment(
        &self,
        list: &Conflist,
        container: Container<'_>,
        ifname: &str,
        resolver: &Resolver,
    ) -> Result<Attachment, Failure> {
        let mut attachment = Attachment::new(container.id, container.netns.to_owned(), ifname);
        let mut arg = |key: &str, value: &str| attachment.args.push((key.into(), value.into()));
        arg("IgnoreUnknown", "1");
        container.name.iter().for_each(|name| arg("K8S_POD_NAME", name));
        let addresses: Vec<_> = self.addresses.iter().map(Address::text).collect();
        if !has_capability(list, "ips") {
            match addresses.as_slice() {
                [] => {}
                [one] => arg("IP", one),
                _ => {
                    return Err(Failure::refused(format!(
                        "network {:?} takes one address: no plugin of its list has the capability \"ips\"",
                        list.name
                    )));
                }
            }
        }
        self.mac.iter().for_each(|mac| arg("MAC", mac));
        attachment.capabilities = self.capabilities(list, &addresses, resolver);
        Ok(attachment)
    }

    fn capabilities(&self, list: &Conflist, ips: &[String], resolver: &Resolver) -> Map<String, Value> {
        let aliases = Map::from_iter([(list.name.clone(), json!(self.aliases))]);
        let Resolver { servers, searches, options } = resolver;
        let dns = json!({"servers": servers, "searches": searches, "options": options});
        let wanted = [
            ("ips", json!(ips), !ips.is_empty()),
            ("mac", json!(self.mac), self.mac.is_some()),
            ("aliases", aliases.into(), !self.aliases.is_empty()),
            ("dns", dns, *resolver != Resolver::default()),
        ];
        let declared = wanted.into_iter().filter(|(name, _, given)| *given && has_capability(list, name));
        declared.map(|(name, value, _)| (name.to_owned(), value)).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn list(capabilities: &str) -> Conflist {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"front","plugins":[
                {{"type":"bridge","capabilities":{{{capabilities}}}}}]}}"#
        );
        Conflist::from_bytes(text.as_bytes()).unwrap()
    }

    const C: Container<'_> = Container { id: "c1", name: Some("web"), netns: "/n" };

    #[test]
    fn the_long_form_is_dockers() {
        let text = "name=front,ip=10.90.1.5,ip6=fd00::5,mac-address=02-42-AC-11-00-02,alias=www,alias=w,\
                    gw-priority=7";
        let endpoint = parse_network(text).unwrap();
        assert_eq!((endpoint.network.as_str(), endpoint.gateway_priority), ("front", 7));
        assert_eq!(endpoint.aliases, ["www", "w"]);
        assert_eq!(endpoint.mac.as_deref(), Some("02:42:ac:11:00:02"));
        assert_eq!(endpoint.addresses.len(), 2);
        assert_eq!(parse_network("front").unwrap().network, "front");
    }

    #[test]
    fn a_wrong_long_form_names_the_fault() {
        for (text, why) in [
            ("", "missing"),
            ("ip=10.0.0.1", "missing"),
            ("name=a,ipp=10.0.0.1", "did you mean \"ip\"?"),
            ("name=a,ip=10.0.0.1/33", "1 to 32"),
            ("name=a,ip=fd00::1", "--ip6"),
            ("name=a,ip", "KEY=VALUE"),
            ("name=a,mac-address=02:42", "MAC"),
            ("name=a,alias=-x", "begins"),
            ("name=a,driver-opt=x=y", "conflist"),
        ] {
            let error = parse_network(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn what_a_list_declares_is_a_capability_and_the_rest_an_argument() {
        let asked = parse_network("name=front,ip=10.90.1.5,mac-address=02:42:ac:11:00:02,alias=www").unwrap();
        let resolver = Resolver::default();
        let all = r#""ips":true,"mac":true,"aliases":true"#;
        let made = asked.attachment(&list(all), C, "eth1", &resolver).unwrap();
        assert_eq!(made.args_text(), "IgnoreUnknown=1;K8S_POD_NAME=web;MAC=02:42:ac:11:00:02");
        let expected =
            json!({"ips": ["10.90.1.5"], "mac": "02:42:ac:11:00:02", "aliases": {"front": ["www"]}});
        assert_eq!(Value::from(made.capabilities), expected);

        let made = asked.attachment(&list(""), C, "eth1", &resolver).unwrap();
        assert_eq!(made.args_text(), "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.90.1.5;MAC=02:42:ac:11:00:02");
        assert!(made.capabilities.is_empty());
        let two = parse_network("name=front,ip=10.90.1.5,ip6=fd00::5").unwrap();
        assert!(two.attachment(&list(""), C, "eth0", &resolver).unwrap_err().text.contains("takes one"));
    }
}
