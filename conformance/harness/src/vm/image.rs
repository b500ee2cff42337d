//! A distribution's kernel package, unpacked: `<images>/<package>/{boot/vmlinuz-*, lib/modules/*}`,
//! as `.ci/tools vm` leaves it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The modules that init needs before it can load more: the bus, the host's root, the overlay on
/// it, the ports.
const NEEDED: [&str; 5] = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_console"];

/// A kernel and its modules.
pub struct Image {
    /// The compressed kernel.
    pub kernel: PathBuf,
    /// The output of `uname -r`.
    pub version: String,
    /// The modules' directory, which ends in the version.
    pub modules: PathBuf,
}

impl Image {
    /// The most recently unpacked image in that directory.
    pub fn newest(images: &Path) -> Result<Self> {
        let entries = fs::read_dir(images).with_context(|| format!("open {}", images.display()))?;
        let mut found: Vec<_> = entries
            .flatten()
            .filter_map(|entry| {
                Some((entry.metadata().ok()?.modified().ok()?, Self::read(&entry.path()).ok()?))
            })
            .collect();
        found.sort_by_key(|(unpacked, _)| *unpacked);
        let (_, newest) = found.pop().with_context(|| format!("no kernel in {}", images.display()))?;
        Ok(newest)
    }

    fn read(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize()?;
        let kernels = fs::read_dir(dir.join("boot"))?.flatten();
        let (kernel, version) = kernels
            .filter_map(|entry| {
                let version = entry.file_name().to_str()?.strip_prefix("vmlinuz-")?.to_owned();
                Some((entry.path(), version))
            })
            .next()
            .context("no boot/vmlinuz-*")?;
        let modules = dir.join("lib/modules").join(&version);
        fs::metadata(modules.join("modules.dep")).context("no modules.dep: depmod has not run")?;
        Ok(Self { kernel, version, modules })
    }

    /// The modules that init loads, each after its dependencies.
    pub fn first_modules(&self) -> Result<Vec<PathBuf>> {
        let dep = fs::read_to_string(self.modules.join("modules.dep")).context("read modules.dep")?;
        let order = load_order(&dep, &NEEDED);
        Ok(order.into_iter().map(|path| self.modules.join(path)).collect())
    }
}

/// The paths of modules.dep (`path: path...`, see depmod(8)) to load for these modules, in order. A
/// module that is not listed is built into the kernel.
fn load_order<'d>(dep: &'d str, wanted: &[&str]) -> Vec<&'d str> {
    let rows = dep.lines().filter_map(|line| line.split_once(':'));
    let rows: BTreeMap<_, _> = rows.map(|(path, needs)| (name(path), (path, needs))).collect();
    let mut order = vec![];
    wanted.iter().for_each(|module| load_after_needs(&rows, module, &mut order));
    order
}

fn load_after_needs<'d>(rows: &BTreeMap<String, (&'d str, &'d str)>, module: &str, order: &mut Vec<&'d str>) {
    let Some((path, needs)) = rows.get(module) else { return };
    if order.contains(path) {
        return;
    }
    needs.split_whitespace().for_each(|need| load_after_needs(rows, &name(need), order));
    order.push(path);
}

/// `kernel/net/9p/9pnet-virtio.ko.xz` is `9pnet_virtio`.
fn name(path: &str) -> String {
    let leaf = path.rsplit('/').next().unwrap_or(path);
    leaf.split('.').next().unwrap_or(leaf).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::load_order;

    #[test]
    fn a_module_is_loaded_once_and_after_its_dependencies() {
        let dep = "k/bus-pci.ko.xz: k/bus.ko.xz k/ring.ko.xz\nk/bus.ko.xz: k/ring.ko.xz\nk/ring.ko.xz:\nk/other.ko.xz:\n\
                   k/fs.ko.xz: k/bus.ko.xz k/ring.ko.xz\n";
        let order = load_order(dep, &["bus_pci", "builtin", "fs"]);
        assert_eq!(order, ["k/ring.ko.xz", "k/bus.ko.xz", "k/bus-pci.ko.xz", "k/fs.ko.xz"]);
    }
}
