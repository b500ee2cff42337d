//! DEL and GC: set back what is on record.

use std::path::Path;

use cni::{Error, Request, ValidAttachments};

use crate::backup;
use crate::config;
use crate::container::Container;
use crate::record::Record;
use crate::store::{Store, siblings};

/// DEL: by the record, or by the reference's backup if there is none.
///
/// # Errors
/// Something could not be set back, and another attempt could do it.
pub fn del(request: &Request) -> Result<(), Error> {
    let dir = config::data_dir(request)?;
    let removal = attach::removal(request);
    if let Some(store) = Store::open_if_any()? {
        if let Some(record) = store.read(removal.owner()) {
            // Another network's, which is alive: its backup is at the same path.
            return match removal.takes(&record.owner.label())? {
                true => take_back(&store, &record, &request.netns),
                false => Ok(()),
            };
        }
        // One that cannot be read describes nothing, but may be another network's, which is alive.
        if let Some(on_record) = store.owner(removal.owner())
            && !removal.takes(&on_record.label())?
        {
            return Ok(());
        }
        store.remove(removal.owner())?;
    }
    match dir.and_then(|dir| backup::path(&dir, removal.owner())) {
        Some(path) => take_back_of_reference(request, &path),
        None => Ok(()),
    }
}

/// GC: of the network's attachments except the valid ones.
///
/// # Errors
/// As for [`del`]; the others are done.
pub fn gc(request: &Request) -> Result<(), Error> {
    let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
    let Some(store) = Store::open_if_any()? else { return Ok(()) };
    let valid = attach::valid_owners(request, valid);
    let mut outcome = Ok(());
    for record in store.all()? {
        if record.owner.network == request.network && !valid.contains(&record.owner) {
            outcome = outcome.and(take_back(&store, &record, ""));
        }
    }
    outcome
}

/// Sets back everything, then removes the backup, and the record last.
fn take_back(store: &Store, record: &Record, netns: &str) -> Result<(), Error> {
    if let Some(container) = Container::of(record, netns)? {
        let siblings = siblings(store, &record.owner, &record.space)?;
        container.set_back(record, &siblings)?;
    }
    backup::remove(record)?;
    Ok(store.remove(&record.owner)?)
}

/// Without its namespace or its link, the backup describes nothing.
fn take_back_of_reference(request: &Request, path: &Path) -> Result<(), Error> {
    let Some(settings) = backup::read(path) else { return Ok(()) };
    if let Some(container) = Container::open(&request.netns)? {
        container.set_back_link(&request.ifname, &settings)?;
    }
    sys::file::remove(path)?;
    Ok(())
}
