//! Devices in sysfs, and the links that they have. Names in paths are checked by the
//! configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cni::Error;

use crate::device::Device;

/// The drivers that give a device to a program.
const DPDK_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// A directory where sysfs is mounted.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    /// Sysfs at this path.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn pci(&self, address: &str) -> PathBuf {
        self.root.join("bus/pci/devices").join(address)
    }

    fn auxiliary(&self, name: &str) -> PathBuf {
        self.root.join("bus/auxiliary/devices").join(name)
    }

    pub(crate) fn has_pci_device(&self, address: &str) -> bool {
        self.pci(address).exists()
    }

    pub(crate) fn has_auxiliary_device(&self, name: &str) -> bool {
        self.auxiliary(name).exists()
    }

    /// Whether a user-space driver has the PCI device.
    pub(crate) fn has_dpdk_driver(&self, address: &str) -> Result<bool, Error> {
        let link = self.pci(address).join("driver");
        let driver = fs::read_link(&link)
            .map_err(|cause| Error::internal(format!("failed to read the driver of {address}: {cause}")))?;
        let name = driver.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(DPDK_DRIVERS.contains(&name))
    }

    /// The name of the link that a device has. Of several it is the first by name.
    pub(crate) fn link_name(&self, device: &Device) -> Result<String, Error> {
        let dir = match device {
            Device::Path(path) => self.root.join(path.trim_start_matches("/sys/")),
            Device::Pci(address) => self.pci(address),
            Device::Auxiliary(name) => self.auxiliary(name),
            Device::Name(name) => return Ok(name.clone()),
            Device::Mac(mac) => return Ok(mac.to_string()),
        };
        match first(&dir.join("net"), "") {
            Err(cause) if matches!(device, Device::Pci(_)) && cause.kind() == io::ErrorKind::NotFound => {
                // A virtio device has its network below the PCI device.
                let virtio = first(&dir, "virtio").map_err(|_| failed(&dir.join("net"), &cause))?;
                let net = dir.join(virtio).join("net");
                first(&net, "").map_err(|cause| failed(&net, &cause))
            }
            found => found.map_err(|cause| failed(&dir.join("net"), &cause)),
        }
    }
}

fn failed(dir: &Path, cause: &io::Error) -> Error {
    Error::internal(format!(
        "failed to find host device: failed to read net directory {}: {cause}",
        dir.display()
    ))
    .details("the device is gone, has no network driver, or is in another network namespace")
}

/// The first entry, by name, that begins with `prefix`.
fn first(dir: &Path, prefix: &str) -> io::Result<String> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.starts_with(prefix) && !name.is_empty() {
            names.push(name);
        }
    }
    names.into_iter().min().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(paths: &[&str]) -> (tempfile::TempDir, Sysfs) {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let sysfs = Sysfs::new(dir.path());
        (dir, sysfs)
    }

    #[test]
    fn a_device_has_its_first_link_directly_or_below_virtio() {
        let (_dir, sysfs) = tree(&[
            "bus/pci/devices/0000:01:00.0/net/eno2",
            "bus/pci/devices/0000:01:00.0/net/eno1",
            "bus/pci/devices/0000:02:00.0/virtio3/net/eth7",
            "bus/pci/devices/0000:03:00.0",
            "bus/auxiliary/devices/mlx5_core.sf.2/net/en3",
            "devices/platform/x/net/lan0",
        ]);
        let pci = |address: &str| sysfs.link_name(&Device::Pci(address.into()));
        assert_eq!(pci("0000:01:00.0").unwrap(), "eno1");
        assert_eq!(pci("0000:02:00.0").unwrap(), "eth7");
        assert!(pci("0000:03:00.0").unwrap_err().msg.contains("failed to read net directory"));
        assert_eq!(sysfs.link_name(&Device::Auxiliary("mlx5_core.sf.2".into())).unwrap(), "en3");
        assert_eq!(sysfs.link_name(&Device::Path("/sys/devices/platform/x".into())).unwrap(), "lan0");
    }

    #[test]
    fn a_user_space_driver_is_known_by_its_name() {
        let (dir, sysfs) = tree(&["bus/pci/devices/a", "bus/pci/devices/b", "bus/pci/devices/c", "drivers"]);
        for (device, driver) in [("a", "vfio-pci"), ("b", "ice")] {
            symlink(
                format!("../../../../drivers/{driver}"),
                dir.path().join(format!("bus/pci/devices/{device}/driver")),
            )
            .unwrap();
        }
        assert!(sysfs.has_dpdk_driver("a").unwrap() && !sysfs.has_dpdk_driver("b").unwrap());
        assert!(sysfs.has_dpdk_driver("c").is_err());
    }
}
