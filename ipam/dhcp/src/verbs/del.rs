//! DEL and GC: give leases back. Neither needs the daemon, a server, or the configuration.

use cni::{Attachment, Error, Request, ValidAttachments};

use super::store;
use crate::farewell::release;
use crate::record::{Record, State, Store, names};
use crate::wire::Place;

pub fn del(request: &Request) -> Result<(), Error> {
    let store = store();
    if !store.exists()? {
        return Ok(());
    }
    // A failure is reported, so that DEL is tried again, but does not stop the other family.
    let [v4, v6] = names(&request.network, &request.container_id, &request.ifname);
    give_back(&store, &v6, &request.netns).and(give_back(&store, &v4, &request.netns))
}

pub fn gc(request: &Request) -> Result<(), Error> {
    let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
    let store = store();
    if !store.exists()? {
        return Ok(());
    }
    let give_back_stale = |name: &str| {
        let Some(record) = store.read(name)? else {
            // It may be of a living attachment.
            if let Some(fault) = store.fault(name) {
                eprintln!("dhcp: {fault}");
            }
            return Ok(());
        };
        let attachment = Attachment { container_id: record.container, ifname: record.ifname };
        if record.network != request.network || valid.contains(&attachment) {
            return Ok(());
        }
        give_back(&store, name, "")
    };
    // A failure is reported, so that GC is tried again, but does not stop the other leases.
    store.names()?.iter().map(|name| give_back_stale(name)).fold(Ok(()), Result::and)
}

/// Releases the lease of a record, and removes the record. `netns`: where the namespace is now, if
/// not where it was.
fn give_back(store: &Store, name: &str, netns: &str) -> Result<(), Error> {
    let record = {
        let _lock = store.lock()?;
        let Some(record) = store.read(name)? else {
            // A lease that is not released ends by itself.
            if let Some(fault) = store.fault(name) {
                eprintln!("dhcp: {fault}: it is removed, and its lease not released");
                store.remove(name)?;
            }
            return Ok(());
        };
        // From here on the daemon does not renew it.
        let record = Record { state: State::Releasing, ..record };
        store.write(&record)?;
        record
    };
    let place = Place::of_record(&record.netns, record.namespace, record.index).or_else(|missing| {
        if netns.is_empty() {
            return Err(missing);
        }
        Place::of_record(netns.as_ref(), record.namespace, record.index)
    });
    match place {
        // The record stays: another DEL can do what this one could not.
        Ok(place) => release(&place, &record.terms)?,
        // A container that is gone can send nothing: its lease ends by itself.
        Err(missing) if missing.is_gone() => {}
        Err(missing) => return Err(missing.into_cni_error()),
    }
    let _lock = store.lock()?;
    store.remove(name)?;
    Ok(())
}
