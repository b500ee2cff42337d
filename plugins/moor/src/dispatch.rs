//! As what the executable was called: as a plugin, by a runtime, or by a person.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cni::{Error, RELEASE, Version};

use crate::context::cni_path;
use crate::failure::Exit;

/// The plugins' names, which are never names of commands.
pub const PLUGINS: [&str; 22] = [
    "bandwidth",
    "bridge",
    "cluster",
    "dhcp",
    "dns",
    "dnsname",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "overlay",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];

/// Every plugin in one executable.
const ALL: &str = "moor-plugins";

/// As what the executable was called.
#[derive(Debug, PartialEq)]
pub enum Called {
    /// By a link of a plugin's name, or with one as the first argument.
    Plugin {
        /// The plugin's name.
        name: String,
        /// The arguments after it.
        arguments: Vec<OsString>,
    },
    /// By a runtime, under its own name: it is no plugin.
    AsPlugin,
    /// By a person; the arguments begin with the name of the program.
    Tool {
        /// The arguments.
        arguments: Vec<OsString>,
    },
}

/// Decides by the arguments of a process. A link of a plugin's name, which an earlier release's
/// multicall executable may have left, goes on working under a runtime; under its own name the
/// executable runs no command for a runtime.
pub fn called(arguments: &mut dyn Iterator<Item = OsString>, by_runtime: bool) -> Called {
    let program = arguments.next().unwrap_or_default();
    if let Some(name) = Path::new(&program).file_name().and_then(plugin) {
        return Called::Plugin { name, arguments: arguments.collect() };
    }
    if by_runtime {
        return Called::AsPlugin;
    }
    let rest: Vec<_> = arguments.collect();
    match rest.first().and_then(|first| plugin(first)) {
        Some(name) => Called::Plugin { name, arguments: rest[1..].to_vec() },
        None => Called::Tool { arguments: [vec![program], rest].concat() },
    }
}

fn plugin(name: &OsStr) -> Option<String> {
    PLUGINS.iter().find(|plugin| name == **plugin).map(|plugin| (*plugin).to_owned())
}

/// Replaces this process by the plugin: the file of its name beside this executable, the executable
/// that holds all plugins, or the plugin in the path. Returns only when there is none.
pub fn become_plugin(name: &str, arguments: &[OsString]) -> Exit {
    let this = fs::read_link("/proc/self/exe").unwrap_or_default();
    let mut tried = Vec::new();
    for program in candidates(name, this.parent(), &cni_path()) {
        if is_same(&program, &this) {
            continue;
        }
        let error = Command::new(&program).arg0(name).args(arguments).exec();
        if error.kind() != std::io::ErrorKind::NotFound {
            eprintln!("moor: execute {}: {error}", program.display());
            return Exit::Status(126);
        }
        tried.push(program.display().to_string());
    }
    eprintln!("moor: the plugin {name} is not installed: tried {}", tried.join(", "));
    Exit::Status(127)
}

fn candidates(name: &str, beside: Option<&Path>, path: &[PathBuf]) -> Vec<PathBuf> {
    let beside = beside.into_iter().flat_map(|dir| [dir.join(name), dir.join(ALL)]);
    beside.chain(path.iter().map(|dir| dir.join(name))).collect()
}

/// Whether both names lead to one file; a link of a plugin's name to this executable would execute
/// itself for ever.
fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    file(one).is_some_and(|file_of_one| file(other) == Some(file_of_one))
}

/// Answers a runtime that took the tool for a plugin.
pub fn refuse() -> Exit {
    let error = Error::invalid_config("\"moor\" is not the name of a plugin")
        .details(format!("moor {RELEASE} is a tool for people; the plugins are: {}", PLUGINS.join(", ")));
    use std::io::Write;
    // When standard output is closed, there is no other place to report to.
    let _ = std::io::stdout().write_all(&error.print(Version::NEWEST));
    Exit::Found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str], by_runtime: bool) -> Called {
        called(&mut words.iter().map(OsString::from), by_runtime)
    }

    #[test]
    fn a_name_of_a_plugin_calls_the_plugin_by_link_and_by_argument() {
        let bridge = |arguments: &[&str]| Called::Plugin {
            name: "bridge".into(),
            arguments: arguments.iter().map(OsString::from).collect(),
        };
        assert_eq!(call(&["/opt/cni/bin/bridge", "--help"], false), bridge(&["--help"]));
        assert_eq!(call(&["bridge"], true), bridge(&[]));
        assert_eq!(call(&["moor", "bridge", "--help"], false), bridge(&["--help"]));
    }

    #[test]
    fn no_command_runs_for_a_runtime() {
        assert_eq!(call(&["/opt/cni/bin/moor"], true), Called::AsPlugin);
        assert_eq!(call(&["moor", "bridge", "--help"], true), Called::AsPlugin);
        assert_eq!(call(&["moor", "network", "rm", "front"], true), Called::AsPlugin);
    }

    #[test]
    fn other_words_are_the_tools() {
        let arguments = ["moor", "network", "ls"].map(OsString::from).to_vec();
        assert_eq!(call(&["moor", "network", "ls"], false), Called::Tool { arguments });
    }

    #[test]
    fn the_names_are_the_makefiles_and_the_second_name_of_dns() {
        let makefile = include_str!("../../../Makefile");
        let line = makefile.lines().find_map(|line| line.strip_prefix("PLUGINS  = ")).unwrap_or_default();
        let mut names: Vec<_> = line.split_whitespace().chain(["dnsname"]).collect();
        names.sort_unstable();
        assert_eq!(names, PLUGINS);
    }
}
