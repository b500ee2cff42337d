//! GC: removes attachments of this network that are no longer valid.

use cni::{Error, Request, ValidAttachments};
use nft::Nft;

use super::del::{log, notify};
use super::retire_network;
use crate::control::Ask;
use crate::record::Key;
use crate::responder::Responder;
use crate::{config, container, place, restore};

/// Removes every attachment of the network but the valid ones.
///
/// # Errors
/// Something failed that a retry may do.
pub fn gc(request: &Request) -> Result<(), Error> {
    let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
    let (place, socket) = place::here(config::state_dir_for_del(request).as_deref())?;
    if !place.dir().exists() && !restore::is_due(&place) {
        return Ok(());
    }
    let valid: Vec<Key> =
        valid.into_iter().map(|valid| Key { container: valid.container_id, ifname: valid.ifname }).collect();
    let mut responder = Responder::new(&place, socket);
    let _lock = place.lock()?;
    restore::restore(&place)?;
    let known = place.scan_network(&request.network)?;
    place.remove_all_but(&request.network, &valid)?;
    let last = place.is_empty(&request.network)?;
    let rules = if last { retire_network(&place, &request.network)? } else { None };
    let ask = Ask::Sync { network: request.network.clone(), key: None };
    notify(&mut responder, &ask, !last);
    // The namespace of an invalid container may still exist.
    let gone = known.attachments.into_iter().filter(|attachment| !valid.contains(&attachment.key));
    for (path, recorded, key) in
        gone.filter_map(|attachment| Some((attachment.netns?, attachment.namespace, attachment.key)))
    {
        match container::clear(&path, recorded, &key.on(&request.network)) {
            Ok(inside) => inside.into_iter().for_each(Nft::close_in_background),
            Err(error) => log(Err(error)),
        }
    }
    rules.into_iter().for_each(Nft::close_in_background);
    Ok(())
}
