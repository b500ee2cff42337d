//! The two verbs. All that can be wrong is looked for before anything is touched.

use anyhow::Result;

use crate::arguments::{Host, Options};
use crate::conflist::List;
use crate::place::{Place, Put};
use crate::source::{Content, Executables};
use crate::wait;

const EXECUTABLE: u32 = 0o755;
const READABLE: u32 = 0o644;

/// Puts the plugins there, and then the conflist: a runtime that reads it finds them.
pub fn install(options: &Options) -> Result<()> {
    let signals = options.waits.then(wait::block).transpose()?;
    let executables = Executables::read(&options.from, &options.only)?;
    let list = options.conflist.as_deref().map(List::read).transpose()?;
    let mut bin = Place::open(&options.host.bin)?;
    bin.ensure_executables_run()?;
    bin.lock()?;
    bin.load()?;
    let files: Vec<(&str, &Content)> = executables.files().collect();
    files.iter().try_for_each(|(name, _)| bin.ensure_no_directory(name))?;
    let mut net_d = None;
    if let Some(list) = &list {
        let mut place = Place::open(&options.host.net_d)?;
        place.load()?;
        place.ensure_no_directory(&list.name)?;
        list.ensure_plugins(bin.dir(), |name| executables.has(name))?;
        if !options.may_be_first && !place.is_ours(&list.name)? {
            list.ensure_not_first(place.dir())?;
        }
        net_d = Some(place);
    }
    put(&mut bin, &files, EXECUTABLE)?;
    if let (Some(place), Some(list)) = (&mut net_d, &list) {
        put(place, &[(&list.name, &list.content)], READABLE)?;
    }
    signals.map_or(Ok(()), wait::wait)
}

fn put(place: &mut Place, files: &[(&str, &Content)], mode: u32) -> Result<()> {
    let dir = place.dir().to_owned();
    let mut unchanged = 0;
    place.hold(files, mode, &mut |name, put| {
        let path = dir.join(name);
        match put {
            Put::Unchanged => unchanged += 1,
            Put::Written => println!("{}", path.display()),
            Put::Kept => println!("{}, in the place of another's, which is kept", path.display()),
        }
    })?;
    if unchanged > 0 {
        println!("{}: {unchanged} of {} files were there", dir.display(), files.len());
    }
    Ok(())
}

/// Gives back what was there: the conflist first, so that no runtime misses a plugin of it.
pub fn uninstall(host: &Host) -> Result<()> {
    let mut bin = Place::open(&host.bin)?;
    bin.lock()?;
    bin.load()?;
    let mut net_d = Place::open(&host.net_d)?;
    net_d.load()?;
    for place in [&mut net_d, &mut bin] {
        for name in place.release()? {
            println!("{}", place.dir().join(name).display());
        }
    }
    Ok(())
}
