//! `trace start`, `stop` and `status`: recorders in the place of plugins. A plugin's name is there at
//! every moment: the recorder is renamed over it, and the original back.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sys::file;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::output::{self, Table};
use crate::space::refused;

use super::line::utc;
use super::place::{Place, State, is_same};

pub const KIND: &str = "traces";
/// Holds the lock of those who put recorders and originals into places. The directories of plugins
/// are not locked themselves: every user may open them, and could hold the lock for ever.
const LOCK_DIR: &str = "/run/moor/trace";
/// The number of private directories in this path.
const LOCK_DEPTH: usize = 2;
const LOCK_MODE: u32 = 0o600;
/// Programs in a directory of plugins that are none.
const NO_PLUGINS: [&str; 2] = ["moor", "moor-plugins"];

fn places(context: &Context) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for dir in context.cni_path.iter().filter_map(|dir| fs::canonicalize(dir).ok()) {
        if !places.iter().any(|known| known.dir == dir) {
            places.push(Place { dir });
        }
    }
    places
}

/// Has recorders take the place of the plugins.
pub fn start(context: &Context, plugins: &[String], time: Option<Duration>) -> Result<Exit, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = time.map(|time| now.saturating_add(time).as_secs());
    let state = State { log: super::LOG.into(), until };
    let mut found: Vec<OsString> = Vec::new();
    for place in places(context) {
        let names =
            plugins_of(&place).map_err(|error| refused(&format!("list {}", place.dir.display()), error))?;
        let wanted: Vec<_> = names
            .into_iter()
            .filter(|name| plugins.is_empty() || plugins.iter().any(|plugin| name == plugin.as_str()))
            .collect();
        if !wanted.is_empty() {
            take_places(&place, &wanted, &state)
                .map_err(|error| refused(&format!("trace plugins of {}", place.dir.display()), error))?;
        }
        found.extend(wanted);
    }
    if found.is_empty() {
        return Err(Failure::refused("there is no such plugin in the path"));
    }
    let missing = plugins.iter().filter(|plugin| !found.iter().any(|name| name == plugin.as_str()));
    let missing: Vec<_> = missing.map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::refused(format!("not in the path: {}", missing.join(", "))).hint("the others are recorded"))
}

/// The plugins of a directory: executable files, by their names.
pub fn plugins_of(place: &Place) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(&place.dir)? {
        let name = entry?.file_name();
        let is_executable = |about: fs::Metadata| about.is_file() && about.permissions().mode() & 0o111 != 0;
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden
            && !NO_PLUGINS.iter().any(|own| name == *own)
            && fs::metadata(place.dir.join(&name)).is_ok_and(is_executable)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn take_places(place: &Place, names: &[OsString], state: &State) -> io::Result<()> {
    let _lock = lock()?;
    match DirBuilder::new().mode(0o755).create(place.hidden()) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let hidden = |name: &str| place.hidden().join(name);
    let state = serde_json::to_vec(state)?;
    fs::write(hidden(".state.new"), state)
        .and_then(|()| fs::rename(hidden(".state.new"), place.state_file()))?;
    if !place.recorder().is_file() {
        fs::copy("/proc/self/exe", hidden(".recorder.new"))?;
        fs::set_permissions(hidden(".recorder.new"), fs::Permissions::from_mode(0o755))?;
        fs::rename(hidden(".recorder.new"), place.recorder())?;
    }
    names.iter().try_for_each(|name| take_place(place, name))
}

fn take_place(place: &Place, name: &OsStr) -> io::Result<()> {
    let (own, original) = (place.dir.join(name), place.original(name));
    if is_same(&own, &place.recorder()) {
        return Ok(());
    }
    // What is there is newer than what an earlier trace has left.
    remove(&original)?;
    fs::hard_link(&own, &original)?;
    let new = place.hidden().join(".new");
    remove(&new)?;
    fs::hard_link(place.recorder(), &new)?;
    fs::rename(&new, &own)
}

/// Puts the originals back everywhere.
pub fn stop(context: &Context) -> Result<Exit, Failure> {
    for place in places(context).into_iter().filter(|place| place.hidden().is_dir()) {
        lock()
            .and_then(|lock| restore(&place, &lock))
            .map_err(|error| refused(&format!("restore plugins of {}", place.dir.display()), error))?;
    }
    Ok(Exit::Done)
}

/// Puts the originals of a directory back, unless somebody else does: a call is not made to wait.
pub fn restore_unless_locked(place: &Place) -> io::Result<()> {
    match file::try_lock(&lock_file()?, LOCK_MODE).map_err(io::Error::other)? {
        Some(lock) if place.hidden().is_dir() => restore(place, &lock),
        _ => Ok(()),
    }
}

/// Puts the originals of a directory back, with the lock. A plugin that was installed meanwhile
/// stays.
fn restore(place: &Place, _lock: &File) -> io::Result<()> {
    let names = match place.originals() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names {
        let (own, original) = (place.dir.join(&name), place.original(&name));
        if is_same(&own, &place.recorder()) {
            fs::rename(&original, &own)?;
        } else {
            remove(&original)?;
        }
    }
    for entry in fs::read_dir(place.hidden())? {
        let path = entry?.path();
        if path != place.recorder() {
            remove(&path)?;
        }
    }
    // The last one: until it is gone, recorders are known by it.
    remove(&place.recorder())?;
    fs::remove_dir(place.hidden())
}

fn lock() -> io::Result<File> {
    file::lock(&lock_file()?, LOCK_MODE).map_err(io::Error::other)
}

fn lock_file() -> io::Result<PathBuf> {
    let dir = Path::new(LOCK_DIR);
    file::make_private_dir(dir, LOCK_DEPTH).map_err(io::Error::other)?;
    Ok(dir.join(".lock"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A directory in which plugins are recorded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    dir: String,
    plugins: Vec<String>,
    log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Prints what is recorded.
pub fn status(context: &Context) -> Result<Exit, Failure> {
    let mut traces = Vec::new();
    for place in places(context) {
        let Some(state) = place.state() else { continue };
        let names = place.originals().map_err(|error| refused("list the recorded plugins", error))?;
        traces.push(Trace {
            dir: place.dir.display().to_string(),
            plugins: names.iter().map(|name| name.to_string_lossy().into_owned()).collect(),
            log: state.log.display().to_string(),
            until: state.until.map(|until| utc(UNIX_EPOCH + Duration::from_secs(until))),
        });
    }
    if context.json {
        return output::document(KIND, &traces, &[]).map(|()| Exit::Done);
    }
    let mut table = Table::new(&["DIRECTORY", "PLUGINS", "UNTIL", "LOG"]);
    for Trace { dir, plugins, log, until } in traces {
        table.row(vec![dir, plugins.join(" "), until.unwrap_or_default(), log]);
    }
    table.print(context).map(|()| Exit::Done)
}
