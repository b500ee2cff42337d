//! The executables that conflists name.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::Runtime;

use super::super::facts::{Copy, PluginFacts};
use super::text;
use crate::context::Context;
use crate::networks::Networks;
use crate::suite;

/// Where plugins are on most hosts.
const USUAL: [&str; 3] = ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"];
/// No executable of a plugin is larger, in bytes.
const SIZE_MAX: u64 = 256 << 20;
/// The time limit of VERSION and STATUS.
const TIME: Duration = Duration::from_secs(30);

pub fn facts(context: &Context, networks: &Networks, run: bool) -> Vec<PluginFacts> {
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for network in &networks.all {
        let ipam =
            network.list.plugins.iter().filter_map(|plugin| plugin.object.get("ipam")?.get("type")?.as_str());
        let own = network.list.plugins.iter().map(|plugin| plugin.plugin_type.as_str());
        for name in own.chain(ipam).filter(|name| !name.is_empty() && !name.contains('/')) {
            let users = users.entry(name.to_owned()).or_default();
            if !users.contains(&network.list.name) {
                users.push(network.list.name.clone());
            }
        }
    }
    let mounts = text(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let mut all: Vec<_> =
        users.into_iter().map(|(name, networks)| one(context, &mounts, name, networks)).collect();
    if run {
        ask(context, networks, &mut all);
    }
    all
}

fn one(context: &Context, mounts: &str, name: String, networks: Vec<String>) -> PluginFacts {
    let own_dir =
        std::env::current_exe().ok().and_then(|exe| Some(exe.canonicalize().ok()?.parent()?.to_owned()));
    let paths: Vec<PathBuf> =
        context.cni_path.iter().map(|dir| dir.join(&name)).filter(|path| path.is_file()).collect();
    let many = paths.len() > 1;
    let found: Vec<Copy> = paths.iter().map(|path| copy(path, own_dir.as_deref(), mounts, many)).collect();
    let others = own_dir.into_iter().chain(USUAL.map(PathBuf::from));
    let elsewhere = others.map(|dir| dir.join(&name)).find(|path| path.is_file());
    PluginFacts {
        elsewhere: elsewhere.filter(|_| found.is_empty()),
        found,
        networks,
        path: context.cni_path.clone(),
        faults: Vec::new(),
        name,
    }
}

fn copy(path: &Path, own_dir: Option<&Path>, mounts: &str, many: bool) -> Copy {
    let about = fs::metadata(path).ok();
    let mode = about.as_ref().map_or(0, |about| about.permissions().mode());
    let own = own_dir.and_then(|dir| fs::metadata(dir.join("moor-plugins")).ok());
    let same = |own: &fs::Metadata| about.as_ref().is_some_and(|about| about.len() == own.len());
    Copy {
        executable: mode & 0o111 != 0,
        noexec: noexec(mounts, &path.canonicalize().unwrap_or_else(|_| path.to_owned())),
        digest: match &about {
            Some(_) if many => digest(path),
            Some(about) => about.ino(),
            None => 0,
        },
        suite: match own {
            Some(own) if same(&own) => "Moor's",
            _ if suite::is_references(path) == Some(true) => "the reference's",
            _ => "of another suite",
        },
        versions: Vec::new(),
        path: path.to_owned(),
    }
}

fn digest(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&read(path).unwrap_or_default());
    hasher.finish()
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(SIZE_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The mount of a path, if nothing on it may be executed: the last of the longest ones.
fn noexec(mountinfo: &str, path: &Path) -> Option<PathBuf> {
    let mut best: Option<(PathBuf, bool)> = None;
    for line in mountinfo.lines() {
        let mut words = line.split(' ').skip(4);
        let (Some(mount), Some(options)) = (words.next(), words.next()) else { continue };
        let mount = PathBuf::from(mount.replace("\\040", " "));
        let is_longer =
            best.as_ref().is_none_or(|(other, _)| mount.as_os_str().len() >= other.as_os_str().len());
        if path.starts_with(&mount) && is_longer {
            best = Some((mount, options.split(',').any(|option| option == "noexec")));
        }
    }
    best.filter(|(_, noexec)| *noexec).map(|(mount, _)| mount)
}

/// Runs VERSION of each plugin and STATUS of each network.
fn ask(context: &Context, networks: &Networks, all: &mut [PluginFacts]) {
    let mut runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.timeout = TIME;
    runtime.forward_stderr = false;
    for plugin in all.iter_mut().filter(|plugin| !plugin.found.is_empty()) {
        match runtime.version(&plugin.name) {
            Ok(info) => {
                if let Some(first) = plugin.found.first_mut() {
                    first.versions = info.supported;
                }
            }
            Err(error) => plugin.faults.push(format!("VERSION: {error}")),
        }
    }
    for network in &networks.all {
        let Err(error) = runtime.status(&network.list) else { continue };
        let first = network.list.plugins.first().map(|plugin| plugin.plugin_type.clone());
        if let Some(plugin) = all.iter_mut().find(|plugin| Some(&plugin.name) == first.as_ref()) {
            plugin.faults.push(format!("STATUS of network {}: {error}", network.name()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path_is_the_longest() {
        let mounts = "1 0 8:1 / / rw,noexec - ext4 x rw\n2 1 8:2 / /opt rw - ext4 y rw\n\
                      3 1 8:3 / /optional rw,noexec - ext4 z rw\n";
        assert_eq!(noexec(mounts, Path::new("/opt/cni/bin/bridge")), None);
        assert_eq!(noexec(mounts, Path::new("/usr/lib/cni/bridge")), Some("/".into()));
    }
}
