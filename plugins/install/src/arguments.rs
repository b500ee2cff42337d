//! The command line. Read by hand, since four options are not worth 0.3 MB in an image of 12.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use crate::source::NAMES;

pub const USAGE: &str = "\
Puts Moor's plugins and a conflist into the directories of a host, and takes them back

Usage: moor-install install [--conflist FILE [--first]] [--only NAME,...] [--wait]
       moor-install uninstall
       moor-install wait

install copies each plugin by rename, the conflist last. What was there under its name is kept for
uninstall. wait ends with SIGTERM or SIGINT, and so does install --wait, after it has installed.

  --conflist FILE  the conflist to install, under its own name [default: none]
  --first          install it even if it is the first of its directory, and so the network of pods
  --only NAMES     install only these plugins, separated by commas [default: all]
  --wait           do not exit when all is installed
  --from DIR       moor-plugins, overlay-agent and moor [default: /opt/moor]
  --bin DIR        the host's directory of plugins [default: /host/opt/cni/bin]
  --net-d DIR      the host's directory of conflists [default: /host/etc/cni/net.d]
  --help, --version";

/// What to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    Install(Options),
    Uninstall(Host),
    Wait,
    Help,
    Version,
}

/// The directories of the host, as they are mounted here.
#[derive(Debug, PartialEq)]
pub struct Host {
    pub bin: PathBuf,
    pub net_d: PathBuf,
}

/// What to install, and how.
#[derive(Debug, PartialEq)]
pub struct Options {
    pub host: Host,
    pub from: PathBuf,
    pub conflist: Option<PathBuf>,
    pub may_be_first: bool,
    /// Names of plugins; empty for all.
    pub only: Vec<String>,
    pub waits: bool,
}

/// Reads the arguments after the program's name.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command> {
    let mut arguments = arguments;
    let verb = arguments.next().context("no command")?;
    let mut options = Options {
        host: Host { bin: "/host/opt/cni/bin".into(), net_d: "/host/etc/cni/net.d".into() },
        from: "/opt/moor".into(),
        conflist: None,
        may_be_first: false,
        only: Vec::new(),
        waits: false,
    };
    let verb = match verb.to_str() {
        Some(verb @ ("install" | "uninstall" | "wait")) => verb,
        Some("--help" | "-h" | "help") => return Ok(Command::Help),
        Some("--version" | "-V") => return Ok(Command::Version),
        _ => bail!("unknown command {}", verb.display()),
    };
    while let Some(argument) = arguments.next() {
        let name = argument.to_str().with_context(|| format!("unknown option {}", argument.display()))?;
        let is_of_verb = match name {
            "--help" | "-h" => return Ok(Command::Help),
            "--bin" | "--net-d" => verb != "wait",
            "--conflist" | "--first" | "--only" | "--wait" | "--from" => verb == "install",
            _ => false,
        };
        ensure!(is_of_verb, "{verb} has no option {name}");
        match name {
            "--first" => options.may_be_first = true,
            "--wait" => options.waits = true,
            _ => {
                let value = arguments.next().filter(|value| !value.is_empty());
                let value = value.with_context(|| format!("{name} needs a value"))?;
                match name {
                    "--bin" => options.host.bin = value.into(),
                    "--net-d" => options.host.net_d = value.into(),
                    "--from" => options.from = value.into(),
                    "--conflist" => options.conflist = Some(value.into()),
                    _ => options.only = names(&value)?,
                }
            }
        }
    }
    ensure!(!options.may_be_first || options.conflist.is_some(), "--first is about a --conflist");
    Ok(match verb {
        "install" => Command::Install(options),
        "uninstall" => Command::Uninstall(options.host),
        _ => Command::Wait,
    })
}

fn names(list: &std::ffi::OsStr) -> Result<Vec<String>> {
    let list = list.to_str().context("--only needs names of plugins")?;
    list.split(',')
        .map(|name| {
            ensure!(NAMES.contains(&name), "--only: there is no plugin {name:?}");
            Ok(name.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn commands_have_their_options_and_no_others() {
        let Command::Install(all) = parsed(
            "install --conflist /c/10-moor.conflist --first --only bridge,dns --wait --from /f --bin /b --net-d /n",
        )
        .unwrap() else {
            panic!("not install")
        };
        assert_eq!(all.conflist.unwrap(), PathBuf::from("/c/10-moor.conflist"));
        assert!(all.may_be_first && all.waits);
        assert_eq!(all.only, ["bridge", "dns"]);
        assert_eq!((all.from, all.host.bin.clone()), (PathBuf::from("/f"), PathBuf::from("/b")));
        assert_eq!(parsed("uninstall --bin /b --net-d /n").unwrap(), Command::Uninstall(all.host));
        assert_eq!(parsed("wait").unwrap(), Command::Wait);
        for wrong in [
            "",
            "remove",
            "wait --bin /b",
            "uninstall --wait",
            "install --force",
            "install --bin",
            "install --first",
            "install --only nothing",
            "install --only bridge,",
            "install /c",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
