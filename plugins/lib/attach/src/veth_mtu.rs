//! The MTU of a veth pair.

use cni::keys::{Key, Kind, key};
use cni::{Error, Request};
use netlink::Netlink;
use serde::Deserialize;

use crate::mtu::MtuConf;

/// The key as it is written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    mtu: Option<MtuConf>,
}

/// The key, and its values.
pub const KEYS: &[Key] = &[key("mtu", Kind::Mtu(MAX as u64))];

/// ETH_MAX_MTU (linux/if_ether.h), the maximum of a veth.
const MAX: u32 = 65535;

/// A configured MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VethMtu {
    /// This many bytes.
    Bytes(u32),
    /// That of the link of the host's default route.
    Auto,
}

/// The configured MTU; `None` is the kernel's default.
///
/// # Errors
/// Code 7 if it is out of range; 999 for a value of another type.
pub fn veth_mtu(request: &Request) -> Result<Option<VethMtu>, Error> {
    let conf: Conf = request.config()?;
    match conf.mtu {
        None => Ok(None),
        Some(MtuConf::Auto) => Ok(Some(VethMtu::Auto)),
        Some(MtuConf::Bytes(bytes)) if bytes <= 0 => Ok(None),
        // 68 is the minimum of IPv4 (RFC 791).
        Some(MtuConf::Bytes(bytes)) => match u32::try_from(bytes) {
            Ok(mtu @ 68..=MAX) => Ok(Some(VethMtu::Bytes(mtu))),
            _ => Err(Error::invalid_config(format!("invalid MTU {bytes} (must be between 68 and {MAX})"))),
        },
    }
}

impl VethMtu {
    /// The MTU in bytes; `None`, the kernel's default, for `auto` without a default route.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn resolve(self, host: &Netlink) -> Result<Option<u32>, Error> {
        match self {
            Self::Bytes(mtu) => Ok(Some(mtu)),
            Self::Auto => {
                let Some(index) = host.default_route_link()? else { return Ok(None) };
                // A default route by loopback does not lead to the outside.
                let link = host.link_by_index(index)?.filter(|link| link.name != "lo");
                Ok(link.map(|link| link.mtu.min(MAX)))
            }
        }
    }

    /// The MTU that CHECK verifies. With `auto` there is none: the link of the default route may
    /// have changed.
    pub fn fixed(self) -> Option<u32> {
        match self {
            Self::Bytes(mtu) => Some(mtu),
            Self::Auto => None,
        }
    }
}
