//! `trace -- COMMAND`: in a mount namespace of its own, directories of recorders cover those of the
//! plugins.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::process::Command;

use nix::mount::{MsFlags, mount};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::escaped;
use crate::space::{leave_mounts, refused};
use crate::supervise::{Orphans, wait_for};

use super::install::plugins_of;
use super::place::{Place, State};

const NONE: Option<&str> = None;
/// Where the covered directory is seen, below the one that covers it.
const ORIGINAL: &str = ".moor-original";
/// A directory that every host has, and that nobody needs for a moment.
const WORKSHOP: &str = "/sys";

/// Runs the command.
pub fn run(context: &Context, command: &[OsString]) -> Result<Exit, Failure> {
    let failed = |failure: Failure| Failure { exit: Exit::Status(125), ..failure };
    leave_mounts().map_err(failed)?;
    for dir in context.cni_path.iter().filter_map(|dir| fs::canonicalize(dir).ok()) {
        let place = Place { dir };
        let what = format!("cover {}", place.dir.display());
        cover(&place).map_err(|error| failed(refused(&what, error)))?;
    }
    let Some((program, rest)) = command.split_first() else { return Ok(Exit::Status(127)) };
    match Command::new(program).args(rest).spawn() {
        Ok(mut child) => wait_for(&mut child, Orphans::Elsewhere),
        Err(error) => {
            eprintln!("moor: execute {}: {error}", escaped(&program.to_string_lossy()));
            Ok(Exit::Status(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }))
        }
    }
}

/// Builds the directory of recorders where `/sys` is, and moves it over the plugins.
fn cover(place: &Place) -> io::Result<()> {
    let new = Place { dir: WORKSHOP.into() };
    let plugins = plugins_of(place)?;
    let entries: Vec<_> = fs::read_dir(&place.dir)?.collect::<Result<_, _>>()?;
    mount(Some("tmpfs"), &new.dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    let (below, seen) = (new.dir.join(ORIGINAL), place.dir.join(ORIGINAL));
    fs::create_dir(&below)?;
    mount(Some(&place.dir), &below, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    fs::create_dir(new.hidden())?;
    let state = State { log: super::LOG.into(), until: None };
    fs::write(new.state_file(), serde_json::to_vec(&state)?)?;
    fs::copy("/proc/self/exe", new.recorder())?;
    for name in entries.iter().map(fs::DirEntry::file_name) {
        if plugins.contains(&name) {
            symlink(seen.join(&name), new.original(&name))?;
            fs::hard_link(new.recorder(), new.dir.join(&name))?;
        } else if !name.as_encoded_bytes().starts_with(b".") {
            symlink(seen.join(&name), new.dir.join(&name))?;
        }
    }
    mount(Some(&new.dir), &place.dir, NONE, MsFlags::MS_MOVE, NONE).map_err(Into::into)
}
