//! The configuration: the keys as written, and the checked settings.

use cni::keys::{Key, Keys, Kind, key};
use std::path::PathBuf;
use std::time::Duration;
use std::{error, fmt};

use serde::Deserialize;

use crate::ask::{Ask, WANTED, client_id};
use crate::message::option;

/// The default of `daemonSocketPath`.
pub const SOCKET: &str = "/run/cni/dhcp.sock";
/// The longest path of a socket, in bytes (sun_path, linux/un.h, without its NUL).
const SOCKET_MAX: usize = 107;
/// The bounds of `timeout`, in seconds.
const TIMEOUT: std::ops::RangeInclusive<u64> = 1..=240;
/// The default and the most of `probeTimeoutMs`.
const PROBE_MS: u64 = 100;
const PROBE_MS_MAX: u64 = 10_000;
/// Entries of a list: each code once.
const ENTRIES_MAX: usize = 256;
/// The longest value of an option, in bytes.
const VALUE_MAX: usize = 255;

/// The keys of the network configuration that dhcp uses.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Conf {
    ipam: Option<IpamConf>,
}

/// The `ipam` object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamConf {
    daemon_socket_path: Option<String>,
    provide: Option<Vec<Option<ProvideConf>>>,
    request: Option<Vec<Option<RequestConf>>>,
    priority: Option<i64>,
    timeout: Option<u64>,
    broadcast: Option<bool>,
    ipv6: Option<String>,
    ipv6_optional: Option<bool>,
    prefix_delegation: Option<bool>,
    probe_timeout_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProvideConf {
    option: Option<String>,
    value: Option<String>,
    from_arg: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestConf {
    option: Option<String>,
    skip_default: Option<bool>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[key("ipam", Kind::Object(IPAM))]];

const IPAM: &[Key] = &[
    key("daemonSocketPath", Kind::Text),
    key(
        "provide",
        Kind::List(&Kind::Object(&[
            key("option", Kind::Text),
            key("value", Kind::Text),
            key("fromArg", Kind::Text),
        ])),
    ),
    key("request", Kind::List(&Kind::Object(&[key("option", Kind::Text), key("skipDefault", Kind::Bool)]))),
    key("priority", Kind::Number(0, u32::MAX as u64)),
    key("timeout", Kind::Number(1, *TIMEOUT.end())),
    key("broadcast", Kind::Bool),
    key("ipv6", Kind::OneOf(&["off", "slaac", "dhcpv6"])),
    key("ipv6Optional", Kind::Bool),
    key("prefixDelegation", Kind::Bool),
    key("probeTimeoutMs", Kind::Number(0, PROBE_MS_MAX)),
];

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// The kernel makes them, of the prefixes that routers advertise.
    Slaac,
    /// A server leases one.
    Dhcp {
        /// Whether it delegates a prefix, too.
        prefix: bool,
    },
}

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The client.
    pub ask: Ask,
    /// The metric of routes.
    pub priority: Option<u32>,
    /// How long ADD waits for addresses.
    pub timeout: Option<Duration>,
    /// Where IPv6 addresses come from, if there are any.
    pub ipv6: Option<Ipv6>,
    /// Whether an attachment without them is of use.
    pub ipv6_optional: bool,
    /// How long another host has to answer for a leased address; zero: it is not asked.
    pub probe: Duration,
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no `ipam` object.
    NoIpam,
    /// The path of the socket.
    Socket(String),
    /// An option that has no number.
    Option(&'static str, usize, String),
    /// An option that the client sets itself.
    Reserved(u8),
    /// A value that is too long.
    Value(u8, usize),
    /// A list that is too long.
    TooMany(&'static str, usize),
    /// All options together do not fit a message.
    TooLong,
    /// A metric that is not one.
    Priority(i64),
    /// A time out of its bounds.
    Timeout(u64),
    /// A source of IPv6 addresses that is not known.
    Ipv6(String),
    /// A prefix without DHCPv6.
    Prefix,
    /// A time for answers out of its bounds.
    Probe(u64),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIpam => f.write_str("dhcp: the configuration has no ipam object"),
            Self::Socket(path) => write!(
                f,
                "ipam.daemonSocketPath {path:?}: must be an absolute path of at most {SOCKET_MAX} bytes"
            ),
            Self::Option(key, index, text) => {
                write!(f, "ipam.{key}[{index}].option: Can not parse option: {text:?}")
            }
            Self::Reserved(code) => {
                write!(f, "ipam.provide: option {code} is the client's own and cannot be provided")
            }
            Self::Value(code, length) => {
                write!(f, "ipam.provide: option {code} is {length} bytes long, at most {VALUE_MAX} fit")
            }
            Self::TooMany(key, count) => write!(f, "ipam.{key}: {count} entries, at most {ENTRIES_MAX}"),
            Self::TooLong => f.write_str("ipam.provide: the options do not fit one message"),
            Self::Priority(number) => write!(f, "invalid ipam.priority {number}, must be [0, {}]", u32::MAX),
            Self::Timeout(seconds) => {
                write!(f, "invalid ipam.timeout {seconds}, must be [{}, {}]", TIMEOUT.start(), TIMEOUT.end())
            }
            Self::Ipv6(text) => write!(f, "invalid ipam.ipv6 {text:?}, must be off, slaac or dhcpv6"),
            Self::Prefix => f.write_str("ipam.prefixDelegation needs ipam.ipv6 \"dhcpv6\""),
            Self::Probe(ms) => write!(f, "invalid ipam.probeTimeoutMs {ms}, must be [0, {PROBE_MS_MAX}]"),
        }
    }
}

impl error::Error for ConfigError {}

/// The names and ids of an attachment, and its CNI_ARGS.
pub struct Identity<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The container's id.
    pub container_id: &'a str,
    /// The interface's name.
    pub ifname: &'a str,
    /// CNI_ARGS as given.
    pub args: &'a str,
}

impl Conf {
    /// The daemon's socket.
    ///
    /// # Errors
    /// No socket can have the path.
    pub fn socket(&self) -> Result<PathBuf, ConfigError> {
        let path = self.ipam.as_ref().and_then(|ipam| ipam.daemon_socket_path.as_deref());
        let path = path.filter(|path| !path.is_empty()).unwrap_or(SOCKET);
        let fits = path.starts_with('/') && path.len() <= SOCKET_MAX && !path.contains('\0');
        if fits { Ok(path.into()) } else { Err(ConfigError::Socket(path.to_owned())) }
    }

    /// Checks the configuration.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn check(self, of: &Identity<'_>) -> Result<Settings, ConfigError> {
        let socket = self.socket()?;
        let ipam = self.ipam.ok_or(ConfigError::NoIpam)?;
        let priority = ipam.priority.unwrap_or(0);
        let priority = u32::try_from(priority).map_err(|_| ConfigError::Priority(priority))?;
        if let Some(seconds) = ipam.timeout.filter(|seconds| !TIMEOUT.contains(seconds)) {
            return Err(ConfigError::Timeout(seconds));
        }
        let mut provide = provided(ipam.provide.unwrap_or_default(), of.args)?;
        let own = provide.iter().position(|(code, _)| *code == option::CLIENT_ID);
        let client_id = match own {
            Some(at) => provide.swap_remove(at).1,
            None => client_id(of.container_id, of.network, of.ifname),
        };
        let ask = Ask {
            client_id,
            provide,
            wanted: wanted(ipam.request.unwrap_or_default())?,
            broadcast: ipam.broadcast.unwrap_or(false),
        };
        if !ask.fits() {
            return Err(ConfigError::TooLong);
        }
        let probe = ipam.probe_timeout_ms.unwrap_or(PROBE_MS);
        if probe > PROBE_MS_MAX {
            return Err(ConfigError::Probe(probe));
        }
        Ok(Settings {
            socket,
            ask,
            priority: (priority > 0).then_some(priority),
            timeout: ipam.timeout.map(Duration::from_secs),
            ipv6: ipv6(ipam.ipv6, ipam.prefix_delegation.unwrap_or(false))?,
            ipv6_optional: ipam.ipv6_optional.unwrap_or(false),
            probe: Duration::from_millis(probe),
        })
    }
}

fn ipv6(text: Option<String>, prefix: bool) -> Result<Option<Ipv6>, ConfigError> {
    let ipv6 = match text.as_deref().unwrap_or_default() {
        "" | "off" => None,
        "slaac" => Some(Ipv6::Slaac),
        "dhcpv6" => Some(Ipv6::Dhcp { prefix }),
        other => return Err(ConfigError::Ipv6(other.to_owned())),
    };
    if prefix && !matches!(ipv6, Some(Ipv6::Dhcp { .. })) { Err(ConfigError::Prefix) } else { Ok(ipv6) }
}

/// The options that are sent. A fixed value comes before one of CNI_ARGS; the last entry of a code
/// counts.
fn provided(list: Vec<Option<ProvideConf>>, args: &str) -> Result<Vec<(u8, Vec<u8>)>, ConfigError> {
    if list.len() > ENTRIES_MAX {
        return Err(ConfigError::TooMany("provide", list.len()));
    }
    let arg = |key: &str| {
        let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == key).map(|(_, value)| value.to_owned())
    };
    let mut options: Vec<(u8, Vec<u8>)> = Vec::new();
    for (index, entry) in list.into_iter().enumerate() {
        let entry = entry.unwrap_or_default();
        let code = code("provide", index, entry.option)?;
        let fixed = entry.value.filter(|value| !value.is_empty());
        let value = fixed.or_else(|| entry.from_arg.filter(|key| !key.is_empty()).and_then(|key| arg(&key)));
        let Some(value) = value else { continue };
        if matches!(
            code,
            option::PAD
                | option::END
                | option::MESSAGE_TYPE
                | option::SERVER
                | option::REQUESTED_ADDRESS
                | option::REQUEST_LIST
                | option::MAX_SIZE
                | option::OVERLOAD
        ) {
            return Err(ConfigError::Reserved(code));
        }
        if value.len() > VALUE_MAX {
            return Err(ConfigError::Value(code, value.len()));
        }
        options.retain(|(known, _)| *known != code);
        options.push((code, value.into_bytes()));
    }
    Ok(options)
}

/// The codes that are asked for: the listed, then the usual unless an entry leaves them out.
fn wanted(list: Vec<Option<RequestConf>>) -> Result<Vec<u8>, ConfigError> {
    if list.len() > ENTRIES_MAX {
        return Err(ConfigError::TooMany("request", list.len()));
    }
    let mut codes = Vec::new();
    let mut usual = true;
    for (index, entry) in list.into_iter().enumerate() {
        let entry = entry.unwrap_or_default();
        usual &= !entry.skip_default.unwrap_or(false);
        if entry.option.as_ref().is_some_and(|option| !option.is_empty()) {
            codes.push(code("request", index, entry.option)?);
        }
    }
    if usual || codes.is_empty() {
        codes.extend(WANTED);
    }
    let mut seen = [false; 256];
    codes.retain(|code| !std::mem::replace(&mut seen[usize::from(*code)], true));
    Ok(codes)
}

/// The number of an option: by name, or as a decimal number.
fn code(key: &'static str, index: usize, text: Option<String>) -> Result<u8, ConfigError> {
    let text = text.unwrap_or_default();
    let code = match text.as_str() {
        "dhcp-client-identifier" => Some(option::CLIENT_ID),
        "subnet-mask" => Some(option::SUBNET_MASK),
        "routers" => Some(option::ROUTERS),
        "host-name" => Some(option::HOST_NAME),
        "user-class" => Some(option::USER_CLASS),
        "vendor-class-identifier" => Some(option::VENDOR_CLASS),
        number => number.parse().ok(),
    };
    code.ok_or(ConfigError::Option(key, index, text))
}

#[cfg(test)]
mod tests;
