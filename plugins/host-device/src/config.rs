//! The configuration of a host-device network: the keys as written ([`Conf`]), and checked
//! ([`Config`]).

use std::path::Path;

use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use netlink::Mac;
use serde::Deserialize;

use crate::device::Device;
use crate::sysfs::Sysfs;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    device: Option<String>,
    hwaddr: Option<String>,
    kernelpath: Option<String>,
    #[serde(rename = "pciBusID")]
    pci_bus_id: Option<String>,
    #[serde(rename = "DPDKMode")]
    dpdk_mode: Option<bool>,
    restore_addresses: Option<bool>,
    take_default_route: Option<bool>,
    enabledad: Option<bool>,
    dns: Option<cni::DnsConf>,
    runtime_config: Option<DeviceConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeviceConf {
    #[serde(rename = "deviceID")]
    device_id: Option<String>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("device", Kind::Text),
    key("hwaddr", Kind::Text),
    key("kernelpath", Kind::Text),
    key("pciBusID", Kind::Text),
    key("DPDKMode", Kind::Bool),
    key("restoreAddresses", Kind::Bool),
    key("takeDefaultRoute", Kind::Bool),
    key("enabledad", Kind::Bool),
    key("ipam", Kind::Ipam),
    key("dns", keys::DNS),
    key("runtimeConfig", Kind::Object(&[key("deviceID", Kind::Text)])),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The device.
    pub device: Device,
    /// Whether a user-space driver has it: there is no link to move.
    pub dpdk: bool,
    /// Whether the host's addresses and routes come back with it.
    pub restore_addresses: bool,
    /// Whether it is taken although the host has no default route without it.
    pub take_default_route: bool,
    /// Whether the kernel detects duplicates of IPv6 addresses.
    pub dad: bool,
    /// The IPAM plugin; `None`: no addresses.
    pub ipam: Option<String>,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

impl Config {
    /// Reads and checks the configuration. Of the host it asks sysfs alone, and only about a PCI
    /// or auxiliary device.
    pub fn of(request: &Request) -> Result<Self, Error> {
        Self::with(request, &Sysfs::new(Path::new("/sys")))
    }

    pub(crate) fn with(request: &Request, sysfs: &Sysfs) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let ipam = attach::ipam_type(request)?;
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut pci = given(conf.pci_bus_id).map(|address| pci_address(&address)).transpose()?;
        let mut auxiliary = None;
        if let Some(id) = given(conf.runtime_config.and_then(|conf| conf.device_id)) {
            match device_id(&id, sysfs)? {
                Device::Pci(address) => pci = Some(address),
                // It may have no network, but the configuration's device is not the one.
                device => (pci, auxiliary) = (None, Some(device)),
            }
        }
        let dpdk = match &pci {
            Some(address) => sysfs.has_dpdk_driver(address)?,
            None => conf.dpdk_mode.unwrap_or(false),
        };
        let device = if let Some(name) = given(conf.device) {
            Device::Name(link_name(name)?)
        } else if let Some(mac) = given(conf.hwaddr) {
            Device::Mac(mac_address(&mac)?)
        } else if let Some(path) = given(conf.kernelpath) {
            Device::Path(kernel_path(path)?)
        } else if let Some(device) = pci.map(Device::Pci).or(auxiliary) {
            device
        } else {
            return Err(Error::invalid_config(
                r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#,
            ));
        };
        Ok(Self {
            device,
            dpdk,
            restore_addresses: conf.restore_addresses.unwrap_or(true),
            take_default_route: conf.take_default_route.unwrap_or(false),
            dad: conf.enabledad.unwrap_or(true),
            ipam,
            dns: conf.dns,
        })
    }
}

/// The configured name of the device; what else is in the configuration, DEL does not need.
pub fn device_name(request: &Request) -> Option<String> {
    let conf: Conf = request.config().unwrap_or_default();
    conf.device.filter(|name| !name.is_empty())
}

/// A name or an alternative name of a link.
fn link_name(name: String) -> Result<String, Error> {
    let fits = name.len() <= 127 && name != "." && name != "..";
    if !fits || name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid_config(format!(
            "invalid device {:?}: not the name of a link",
            shortened(&name)
        )));
    }
    Ok(name)
}

fn mac_address(text: &str) -> Result<Mac, Error> {
    text.parse().map_err(|error| {
        Error::invalid_config(format!("failed to parse MAC address {:?}: {error}", shortened(text)))
    })
}

fn kernel_path(path: String) -> Result<String, Error> {
    let inside = path
        .strip_prefix("/sys/devices/")
        .is_some_and(|rest| rest.split('/').all(|part| part != "." && part != "..") && !rest.contains('\0'));
    if !inside {
        let path = shortened(&path);
        return Err(Error::invalid_config(format!(
            "kernel device path {path:?} must be absolute and begin with /sys/devices/, without \"..\""
        )));
    }
    Ok(path)
}

/// A PCI address as sysfs writes it: domain, bus, device, function.
fn pci_address(text: &str) -> Result<String, Error> {
    if !is_pci_address(text) {
        return Err(Error::invalid_config(format!(
            "invalid pciBusID {:?}: expected a PCI address like 0000:3b:00.1",
            shortened(text)
        )));
    }
    Ok(text.to_ascii_lowercase())
}

fn is_pci_address(text: &str) -> bool {
    let digits = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = text.split(':');
    let (Some(domain), Some(bus), Some(rest), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some((device, function)) = rest.split_once('.') else { return false };
    digits(domain, 4..=8) && digits(bus, 2..=2) && digits(device, 2..=2) && digits(function, 1..=1)
}

/// The device that a device plugin has allocated: on the PCI or the auxiliary bus.
fn device_id(id: &str, sysfs: &Sysfs) -> Result<Device, Error> {
    let missing = || {
        Error::invalid_config(format!("runtime config DeviceID {} not found or unsupported", shortened(id)))
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let address = id.to_ascii_lowercase();
    if is_pci_address(id) && sysfs.has_pci_device(&address) {
        Ok(Device::Pci(address))
    } else if id.len() <= 64 && id.bytes().all(is_word) && id != ".." && sysfs.has_auxiliary_device(id) {
        Ok(Device::Auxiliary(id.to_owned()))
    } else {
        Err(missing())
    }
}
