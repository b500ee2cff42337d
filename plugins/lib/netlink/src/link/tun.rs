//! TUN and TAP devices, as the kernel describes them. Only a descriptor creates one:
//! `sys::tap`.

use crate::attr::{Attrs, Malformed};

/// linux/if_link.h, attributes of a TUN or TAP device.
const IFLA_TUN_OWNER: u16 = 1;
const IFLA_TUN_GROUP: u16 = 2;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_TUN_PERSIST: u16 = 6;
const IFLA_TUN_MULTI_QUEUE: u16 = 7;

/// linux/if_tun.h: IFF_TAP.
const TAP: u8 = 2;

/// Attributes of a TUN or TAP device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunInfo {
    /// Ethernet frames (TAP), not IP packets (TUN).
    pub tap: bool,
    /// The user who may attach queues; `None` is no particular user.
    pub owner: Option<u32>,
    /// The group that may attach queues; `None` is no particular group.
    pub group: Option<u32>,
    /// It outlives its queues.
    pub persistent: bool,
    /// It takes several queues.
    pub multi_queue: bool,
}

impl TunInfo {
    /// Reads the IFLA_INFO_DATA of a device.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Self, Malformed> {
        let mut info = Self::default();
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_TUN_OWNER => info.owner = Some(attr.u32()?),
                IFLA_TUN_GROUP => info.group = Some(attr.u32()?),
                IFLA_TUN_TYPE => info.tap = attr.u8()? == TAP,
                IFLA_TUN_PERSIST => info.persistent = attr.u8()? != 0,
                IFLA_TUN_MULTI_QUEUE => info.multi_queue = attr.u8()? != 0,
                _ => {}
            }
        }
        Ok(info)
    }
}
