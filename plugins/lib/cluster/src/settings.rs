//! `/etc/moor/cluster.json`: how a host reaches etcd, and how the cluster treats it. No secret is in
//! it, only paths of secrets.

mod member;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{error, fmt};

use cni::keys::{Keys, Kind, TEXTS, key};
use member::Members;
use serde_json::{Map, Value};
use sys::IpFamily;

/// The longest file, in bytes.
pub const SIZE_MAX: usize = 64 << 10;
/// The most members of etcd.
const ENDPOINTS_MAX: usize = 16;
/// The default of `prefix`.
const PREFIX: &str = "/moor";
/// The longest prefix of keys, in bytes: the rest of a key must fit, too.
const PREFIX_MAX: usize = 128;
/// The longest name of a host, in bytes.
const HOST_NAME_MAX: usize = 253;
/// The shortest time until a host's addresses are free, in seconds, and the longest: ten years.
const RECLAIM: (u32, u32) = (600, 315_360_000);

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("endpoints", TEXTS),
    key("ca", Kind::Text),
    key("cert", Kind::Text),
    key("key", Kind::Text),
    key("user", Kind::Text),
    key("passwordFile", Kind::Text),
    key("insecure", Kind::Bool),
    key("prefix", Kind::Text),
    key("hostName", Kind::Text),
    key("hostAddress", Kind::Any),
    key("port", Kind::Number(1, u16::MAX as u64)),
    key("encryptedPort", Kind::Number(1, u16::MAX as u64)),
    key("wireguardPort", Kind::Number(1, u16::MAX as u64)),
    key("hostTtlS", Kind::Number(3, 300)),
    key("reclaimAfterS", Kind::Number(0, RECLAIM.1 as u64)),
    key("timeoutMs", Kind::Number(100, 30_000)),
    key("whenUnreachable", Kind::OneOf(&["local", "fail"])),
]];

/// The file is missing, or something in it is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// The file.
    pub file: PathBuf,
    /// The key, if one is at fault.
    pub key: Option<String>,
    /// What is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.why)
    }
}

impl error::Error for SettingsError {}

/// What a plugin does when etcd is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnreachable {
    /// It goes on with what this host has.
    #[default]
    Local,
    /// An ADD that cannot be published fails.
    Fail,
}

/// The settings, checked, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `https://host:port`, or `http://` to loopback.
    pub endpoints: Vec<String>,
    /// PEM file of the authority that signed the members' certificates.
    pub ca: Option<PathBuf>,
    /// PEM file of this host's certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// etcd's user.
    pub user: Option<String>,
    /// File with the user's password, 0600.
    pub password_file: Option<PathBuf>,
    /// Plain HTTP to other hosts is allowed, and the members' names are not checked.
    pub insecure: bool,
    /// Keys begin with `<prefix>/1/`.
    pub prefix: String,
    /// The host's name, for people; the node name if absent.
    pub host_name: Option<String>,
    /// The sources of VXLAN packets, at most one of a family; empty: the source address of the route
    /// to the first member that answers.
    pub host_addresses: Vec<IpAddr>,
    /// UDP port of VXLAN.
    pub port: u16,
    /// UDP port of VXLAN inside WireGuard.
    pub encrypted_port: u16,
    /// UDP port of WireGuard.
    pub wireguard_port: u16,
    /// Seconds until a host without a sign of life is silent.
    pub host_ttl_s: u32,
    /// Seconds until a silent host's addresses are free; 0: never by itself.
    pub reclaim_after_s: u32,
    /// The longest wait of a plugin for the agent or etcd, in milliseconds.
    pub timeout_ms: u32,
    /// What ADD does when etcd is away.
    pub when_unreachable: WhenUnreachable,
}

impl Settings {
    /// Reads the content of a file; `None` when there is no file. Nothing it names is opened.
    ///
    /// # Errors
    /// The first fault, with the file and the key.
    pub fn parse(file: &Path, content: Option<&[u8]>) -> Result<Self, SettingsError> {
        let fail = |key: Option<String>, why: String| SettingsError { file: file.to_owned(), key, why };
        let content = content.ok_or_else(|| {
            fail(None, "there is no such file: write it, with at least \"endpoints\" of etcd".into())
        })?;
        if content.len() > SIZE_MAX {
            return Err(fail(None, format!("it is longer than {SIZE_MAX} bytes")));
        }
        let members: Map<String, Value> = serde_json::from_slice(content)
            .map_err(|error| fail(None, format!("it is no JSON object: {error}")))?;
        let known = |name: &str| KEYS.iter().flat_map(|part| part.iter()).any(|key| key.name == name);
        if let Some(unknown) = members.keys().find(|name| !known(name)) {
            return Err(fail(Some(cni::shortened(unknown)), "there is no such key".into()));
        }
        Self::of(&Members(members)).map_err(|(key, why)| fail(Some(key.into()), why))
    }

    fn of(members: &Members) -> Result<Self, (&'static str, String)> {
        let insecure = members.bool("insecure")?;
        let settings = Self {
            endpoints: endpoints(members.texts("endpoints")?, insecure)?,
            ca: members.path("ca")?,
            cert: members.path("cert")?,
            key: members.path("key")?,
            user: members.text("user")?,
            password_file: members.path("passwordFile")?,
            insecure,
            prefix: prefix(members.text("prefix")?)?,
            host_name: host_name(members.text("hostName")?)?,
            host_addresses: host_addresses(members.text_or_texts("hostAddress")?)?,
            port: members.port("port", 4789)?,
            encrypted_port: members.port("encryptedPort", 4790)?,
            wireguard_port: members.port("wireguardPort", 51821)?,
            host_ttl_s: members.number("hostTtlS", 10, 3, 300)?,
            reclaim_after_s: members.number("reclaimAfterS", 86_400, 0, RECLAIM.1)?,
            timeout_ms: members.number("timeoutMs", 3000, 100, 30_000)?,
            when_unreachable: match members.text("whenUnreachable")?.as_deref() {
                None | Some("local") => WhenUnreachable::Local,
                Some("fail") => WhenUnreachable::Fail,
                Some(other) => {
                    let why = format!("{:?} is neither \"local\" nor \"fail\"", cni::shortened(other));
                    return Err(("whenUnreachable", why));
                }
            },
        };
        settings.check_pairs()?;
        Ok(settings)
    }

    fn check_pairs(&self) -> Result<(), (&'static str, String)> {
        let hold = |is_so: bool, key, why: &str| if is_so { Ok(()) } else { Err((key, why.to_owned())) };
        hold(self.cert.is_some() || self.key.is_none(), "cert", "\"key\" is there without it")?;
        hold(self.key.is_some() || self.cert.is_none(), "key", "\"cert\" is there without it")?;
        hold(
            self.user.is_some() || self.password_file.is_none(),
            "user",
            "\"passwordFile\" is there without it",
        )?;
        hold(
            self.password_file.is_some() || self.user.is_none(),
            "passwordFile",
            "\"user\" is there without it",
        )?;
        hold(self.port != self.encrypted_port, "encryptedPort", "it is \"port\", too")?;
        let is_apart = ![self.port, self.encrypted_port].contains(&self.wireguard_port);
        hold(is_apart, "wireguardPort", "it is \"port\" or \"encryptedPort\", too")?;
        let is_long = self.reclaim_after_s == 0 || self.reclaim_after_s >= RECLAIM.0;
        hold(is_long, "reclaimAfterS", "it is neither 0 (never by itself) nor 600 or more")
    }
}

fn endpoints(texts: Option<Vec<String>>, insecure: bool) -> Result<Vec<String>, (&'static str, String)> {
    const KEY: &str = "endpoints";
    let texts = texts.unwrap_or_default();
    if texts.is_empty() {
        return Err((KEY, "it is missing: a list of https://host:port, one for each member of etcd".into()));
    }
    if texts.len() > ENDPOINTS_MAX {
        return Err((KEY, format!("there are more than {ENDPOINTS_MAX}")));
    }
    for text in &texts {
        let fail = |why: &str| (KEY, format!("{:?} {why}", cni::shortened(text)));
        let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(fail("is neither https://host:port nor http://host:port")),
        };
        let host = host_of(rest).ok_or_else(|| fail("does not name a host and a port, and nothing else"))?;
        if !is_tls && !insecure && !is_loopback(host) {
            return Err(fail("is plain HTTP to another host: use https, or set \"insecure\": true"));
        }
    }
    Ok(texts)
}

/// The host of `host:port`, an IPv6 address without its brackets.
fn host_of(text: &str) -> Option<&str> {
    let (host, port) = text.rsplit_once(':')?;
    let is_port = port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port);
    let is_name = |host: &str| {
        !host.is_empty()
            && host.len() <= HOST_NAME_MAX
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let host = match host.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| is_name(host))?,
    };
    is_port.then_some(host)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn prefix(text: Option<String>) -> Result<String, (&'static str, String)> {
    let text = text.unwrap_or_else(|| PREFIX.into());
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    let is_sound =
        text.len() <= PREFIX_MAX && text.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_part));
    let why = || format!("{:?} is not / and a name, or several of these", cni::shortened(&text));
    if is_sound { Ok(text) } else { Err(("prefix", why())) }
}

fn host_name(text: Option<String>) -> Result<Option<String>, (&'static str, String)> {
    let is_bad =
        |text: &String| text.is_empty() || text.len() > HOST_NAME_MAX || text.contains(char::is_control);
    match text {
        Some(text) if is_bad(&text) => {
            Err(("hostName", "it is empty, too long or has control characters".into()))
        }
        text => Ok(text),
    }
}

fn host_addresses(texts: Option<Vec<String>>) -> Result<Vec<IpAddr>, (&'static str, String)> {
    const KEY: &str = "hostAddress";
    let Some(texts) = texts else { return Ok(Vec::new()) };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in &texts {
        let ip = cni::parse_ip(text).map_err(|error| (KEY, error.to_string()))?;
        if !crate::usable::is_destination(ip) {
            return Err((KEY, format!("{ip} is no address that other hosts can send to")));
        }
        if addresses.iter().any(|other| IpFamily::of(*other) == IpFamily::of(ip)) {
            return Err((KEY, format!("more than one address of {}", IpFamily::of(ip).name())));
        }
        addresses.push(ip);
    }
    if addresses.is_empty() { Err((KEY, "the list is empty".into())) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests;
