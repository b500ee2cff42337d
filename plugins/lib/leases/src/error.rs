//! Errors of the configuration and of allocation.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// An invalid configuration. Where the reference has a text, it is kept exactly: operators search
/// logs for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No `ipam` object.
    NoIpam,
    /// No range.
    NoRanges,
    /// A value is not an address or a CIDR.
    BadText(cni::ParseAddrError),
    /// A requested address is not an address.
    BadRequest(String),
    /// A required address is missing.
    NoAddress,
    /// A requested address is the empty string.
    EmptyRequest,
    /// A subnet with fewer than two usable addresses.
    TooSmall(IpNetwork),
    /// `::ffff:a.b.c.d/n`
    MappedSubnet,
    /// The subnet is not its network address.
    HostBits(IpNetwork),
    /// Gateway and subnet are of different families.
    GatewayFamily {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// `rangeStart` outside the subnet, or after the end.
    StartOutside {
        /// `rangeStart`
        start: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
        /// The reason, if it is in the subnet.
        why: Option<Misplaced>,
    },
    /// `rangeEnd` outside the subnet, or before the start.
    EndOutside {
        /// `rangeEnd`
        end: IpAddr,
        /// The subnet.
        subnet: IpNetwork,
        /// The reason, if it is in the subnet.
        why: Option<Misplaced>,
    },
    /// A range of one address, which is never allocated.
    NothingToGive {
        /// The address.
        ip: IpAddr,
        /// The reason.
        why: Reserved,
        /// The subnet.
        subnet: IpNetwork,
    },
    /// A set without ranges.
    EmptySet,
    /// A set with both families.
    MixedFamilies,
    /// Two ranges of one set, as text.
    RangesOverlap(String, String),
    /// An error of the set with this index.
    InSet(usize, Box<ConfigError>),
    /// Two sets share an address.
    SetsOverlap(usize, usize),
    /// A result of this version has one address per family.
    OnePerFamily(&'static str),
    /// The route with this index has no `dst`.
    RouteWithoutDst(usize),
    /// An error of the route with this index.
    InRoute(usize, Box<ConfigError>),
    /// Too many entries: key, count, limit.
    TooMany(&'static str, usize, usize),
    /// `reclaim` is neither `boot` nor `never`.
    BadReclaim(String),
    /// The network's name or `dataDir` cannot be part of a path.
    BadPath(&'static str, String),
}

/// Why an address inside a range is never allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The range's gateway.
    Gateway,
    /// The subnet's own address (RFC 1122, 3.2.1.3; for IPv6 the subnet-router anycast address, RFC
    /// 4291, 2.6.1).
    Network,
    /// The IPv4 broadcast address.
    Broadcast,
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gateway => "gateway",
            Self::Network => "network address",
            Self::Broadcast => "broadcast address",
        })
    }
}

/// Why `rangeStart` or `rangeEnd` is wrong, although it is in the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misplaced {
    /// It is an address that is never allocated.
    Reserved(Reserved),
    /// The start is after this end.
    AfterEnd(IpAddr),
    /// The end is before this start.
    BeforeStart(IpAddr),
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(why) => write!(f, "it is the subnet's {why}, which is never given out"),
            Self::AfterEnd(end) => write!(f, "it is after the range's end {end}"),
            Self::BeforeStart(start) => write!(f, "it is before the range's start {start}"),
        }
    }
}

/// A colon and the reason, or nothing.
fn reason_suffix(why: &Option<Misplaced>) -> String {
    why.map_or_else(String::new, |why| format!(": {why}"))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIpam => write!(f, "IPAM config missing 'ipam' key"),
            Self::NoRanges => write!(f, "no IP ranges specified"),
            Self::BadText(error) => write!(f, "{error}"),
            Self::BadRequest(text) => write!(f, "invalid IP address {text}"),
            Self::NoAddress => write!(f, "IP <nil> not v4 nor v6"),
            Self::EmptyRequest => write!(f, "cannot understand ip: {}", Self::NoAddress),
            Self::TooSmall(subnet) => write!(f, "Network {subnet} too small to allocate from"),
            Self::MappedSubnet => write!(f, "IPNet IP and Mask version mismatch"),
            Self::HostBits(subnet) => write!(
                f,
                "Network has host bits set. For a subnet mask of length {} the network address is {}",
                subnet.prefix(),
                subnet.network()
            ),
            Self::GatewayFamily { gateway, subnet } => {
                write!(f, "gateway {gateway} is not of the address family of subnet {subnet}")
            }
            // The reference accepts this one, and then allocates nothing.
            Self::StartOutside { start, subnet, why: Some(Misplaced::Reserved(why)) } => {
                write!(f, "RangeStart {start} is the {why} of {subnet}, which is never given out")
            }
            Self::StartOutside { start, subnet, why } => {
                write!(f, "RangeStart {start} not in network {subnet}{}", reason_suffix(why))
            }
            Self::EndOutside { end, subnet, why } => {
                write!(f, "RangeEnd {end} not in network {subnet}{}", reason_suffix(why))
            }
            Self::NothingToGive { ip, why, subnet } => write!(
                f,
                "the range has no address to give: {ip} is the {why} of {subnet}, which is never given out"
            ),
            Self::EmptySet => write!(f, "empty range set"),
            Self::MixedFamilies => write!(f, "mixed address families"),
            Self::RangesOverlap(one, other) => write!(f, "subnets {one} and {other} overlap"),
            Self::InSet(index, cause) => write!(f, "invalid range set {index}: {cause}"),
            Self::SetsOverlap(one, other) => write!(f, "range set {one} overlaps with {other}"),
            Self::OnePerFamily(version) => {
                write!(f, "CNI version {version} does not support more than 1 address per family")
            }
            Self::RouteWithoutDst(index) => write!(f, "invalid route {index}: no dst"),
            Self::InRoute(index, cause) => write!(f, "invalid route {index}: {cause}"),
            Self::TooMany(key, count, bound) => {
                write!(f, "{count} entries in {key}, at most {bound} are supported")
            }
            Self::BadReclaim(text) => write!(f, "invalid reclaim {text:?}: must be \"boot\" or \"never\""),
            Self::BadPath(key, text) => write!(f, "{key} {text:?} cannot be part of a path"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<cni::ParseAddrError> for ConfigError {
    fn from(error: cni::ParseAddrError) -> Self {
        Self::BadText(error)
    }
}

impl ConfigError {
    /// The error for the runtime, with code 7.
    pub fn to_cni_error(&self) -> cni::Error {
        cni::Error::new(cni::Code::InvalidConfig, self.to_string())
    }
}

/// Why an address could not be allocated. `{}` prints no cause; see `source`.
#[derive(Debug)]
pub enum AllocError {
    /// An error of the set with this index.
    InSet(usize, Box<AllocError>),
    /// Every address of the set (its text) is leased.
    Exhausted(String),
    /// This attachment has an address of the set already.
    Duplicate {
        /// That address.
        ip: IpAddr,
        /// The container.
        container_id: String,
    },
    /// The requested address is leased to another attachment.
    Taken {
        /// The address.
        ip: IpAddr,
        /// The set's text.
        set: String,
    },
    /// The requested address is never allocated.
    Reserved {
        /// The address.
        ip: IpAddr,
        /// The reason.
        why: Reserved,
        /// The subnet of its range.
        subnet: IpNetwork,
    },
    /// The requested address is in `exclude`.
    Excluded(IpAddr),
    /// These requested addresses are in no range.
    Unserved(Vec<IpAddr>),
    /// The store failed.
    Store(sys::Error),
    /// The allocation failed, and its roll-back too; this has the first error.
    NotTakenBack(Box<AllocError>, sys::Error),
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSet(index, _) => write!(f, "failed to allocate for range {index}"),
            Self::Exhausted(set) => write!(f, "no IP addresses available in range set: {set}"),
            Self::Duplicate { ip, container_id } => {
                write!(f, "{ip} has been allocated to {container_id}, duplicate allocation is not allowed")
            }
            Self::Taken { ip, set } => {
                write!(f, "requested IP address {ip} is not available in range set {set}")
            }
            Self::Reserved { ip, why: Reserved::Gateway, .. } => {
                write!(f, "requested ip {ip} is subnet's gateway")
            }
            Self::Reserved { ip, why, subnet } => write!(f, "requested ip {ip} is the {why} of {subnet}"),
            Self::Excluded(ip) => write!(f, "requested ip {ip} is in the exclude list of the network"),
            Self::Unserved(ips) => {
                write!(f, "failed to allocate all requested IPs:")?;
                ips.iter().try_for_each(|ip| write!(f, " {ip}"))
            }
            Self::Store(error) => write!(f, "{error}"),
            Self::NotTakenBack(_, error) => {
                write!(f, "a lease of the failed allocation is left ({error:#}); run DEL")
            }
        }
    }
}

impl std::error::Error for AllocError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::InSet(_, cause) | Self::NotTakenBack(cause, _) => Some(cause),
            Self::Store(error) => error.source(),
            _ => None,
        }
    }
}

impl From<sys::Error> for AllocError {
    fn from(error: sys::Error) -> Self {
        Self::Store(error)
    }
}
