//! The answer to a person who calls a plugin by hand.

use std::ffi::OsString;
use std::io;

use super::{AnyPlugin, Streams};
use crate::{C_LIBRARY, RELEASE};

/// `--version`, `--help`, and without either the about text (C-008).
pub(super) fn answer(
    plugin: &dyn AnyPlugin,
    arguments: &[OsString],
    streams: &mut Streams<'_>,
) -> io::Result<()> {
    let name = plugin.name();
    for argument in arguments {
        let text = match argument.to_str() {
            Some("--version" | "-V") => format!("{name} {RELEASE}{C_LIBRARY}\n"),
            Some("--help" | "-h") => help(plugin),
            _ => continue,
        };
        return streams.print(text.as_bytes());
    }
    let versions: Vec<_> = plugin.versions().iter().map(|version| version.as_str()).collect();
    streams.log(format_args!(
        "CNI {name} plugin v{RELEASE}\nCNI protocol versions supported: {}",
        versions.join(", ")
    ));
    Ok(())
}

fn help(plugin: &dyn AnyPlugin) -> String {
    let commands = plugin.commands().iter().map(|(name, about)| format!("  {name:<16} {about}\n"));
    let commands: String = commands.collect();
    format!(
        "{name} {RELEASE}: {about}

A CNI plugin of the Moor suite. A container runtime runs it, with the request in the environment
and the network configuration, one JSON object, on standard input:

  CNI_COMMAND      ADD, DEL, CHECK, GC, STATUS or VERSION
  CNI_CONTAINERID  the container's id (ADD, DEL, CHECK)
  CNI_NETNS        path of its network namespace (ADD, CHECK; DEL if it is still there)
  CNI_IFNAME       name of the interface in it (ADD, DEL, CHECK)
  CNI_ARGS         further KEY=VALUE pairs, separated by ';'
  CNI_PATH         directories with plugins, separated by ':'

The answer, a result or an error, is one JSON object on standard output.
Without CNI_COMMAND:

{commands}  --help, -h       this text
  --version, -V    name and version

The plugin's README.md lists the keys of its configuration.
",
        name = plugin.name(),
        about = plugin.about(),
    )
}
