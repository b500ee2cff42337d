//! Where the tool looks, and how it prints.

use std::env;
use std::io::IsTerminal;
use std::path::PathBuf;

use crate::escape::escaped;
use crate::failure::Failure;
use crate::globals::Globals;

/// The directories of a command, and the form of its output.
#[derive(Clone, Debug)]
pub struct Context {
    /// The configuration directories; `network create` writes to the first.
    pub dirs: Vec<PathBuf>,
    /// Where plugins are looked for, in order.
    pub cni_path: Vec<PathBuf>,
    /// Holds `results` (the runtimes' records) and `networks` (host-local's leases).
    pub cache_dir: PathBuf,
    /// One JSON document instead of text.
    pub json: bool,
    /// Standard output is a terminal that shows colours.
    pub colour: bool,
    /// Report on standard error what is read from where.
    pub verbose: bool,
}

impl Context {
    /// By the arguments, the environment and the defaults, in this order.
    pub fn new(globals: &Globals) -> Self {
        let plain = globals.no_color
            || env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            dirs: if globals.dir.is_empty() { vec![default_dir()] } else { globals.dir.clone() },
            cni_path: globals
                .cni_path
                .as_ref()
                .map_or_else(cni_path, |path| env::split_paths(path).collect()),
            cache_dir: globals
                .cache_dir
                .clone()
                .or_else(|| variable("CNI_CACHE_DIR").map(PathBuf::from))
                .unwrap_or_else(|| "/var/lib/cni".into()),
            json: globals.json || globals.format.is_some_and(|format| format.is_json()),
            colour: !plain && std::io::stdout().is_terminal(),
            verbose: globals.verbose,
        }
    }

    /// Reports on standard error, when asked to, what is read from where.
    pub fn trace(&self, text: &str) {
        if self.verbose {
            eprintln!("moor: {}", escaped(text));
        }
    }
}

/// Exit status 3 without root, with what root is needed for.
pub fn require_root(reason: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::incomplete(format!("needs root: {reason}")))
}

/// The path of plugins by the environment.
pub fn cni_path() -> Vec<PathBuf> {
    let path = variable("CNI_PATH").unwrap_or_else(|| "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni".into());
    env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty()).collect()
}

fn default_dir() -> PathBuf {
    if let Some(dir) = variable("NETCONFPATH") {
        return dir.into();
    }
    if nix::unistd::geteuid().is_root() {
        return "/etc/cni/net.d".into();
    }
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".config"));
    let base = variable("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    base.map_or_else(|| "/etc/cni/net.d".into(), |base| base.join("cni/net.d"))
}

fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}
