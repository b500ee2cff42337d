//! GC: removes attachments of this network that are no longer valid.

use cni::{Error, Request, ValidAttachments};

use super::del::{log_failure, notify};
use super::remove_network;
use crate::control::ControlRequest;
use crate::record::Key;
use crate::responder::ResponderClient;
use crate::{config, container, locate, restore};

/// Removes every attachment of the network but the valid ones.
///
/// # Errors
/// Something failed that a retry may do.
pub fn gc(request: &Request) -> Result<(), Error> {
    let ValidAttachments::Only(valid) = request.valid_attachments()? else { return Ok(()) };
    let (state_dir, socket) = locate::state_dir(config::state_dir_for_del(request).as_deref())?;
    if !state_dir.dir().exists() && !restore::is_due(&state_dir) {
        return Ok(());
    }
    let valid: Vec<Key> =
        valid.into_iter().map(|valid| Key { container: valid.container_id, ifname: valid.ifname }).collect();
    let mut responder = ResponderClient::new(&state_dir, socket);
    let _lock = state_dir.lock()?;
    restore::restore(&state_dir)?;
    let known = state_dir.scan_network(&request.network)?;
    state_dir.remove_all_but(&request.network, &valid)?;
    let last = state_dir.is_empty(&request.network)?;
    let _rules = if last { remove_network(&state_dir, &request.network)? } else { None };
    let sync = ControlRequest::Sync { network: request.network.clone(), key: None };
    notify(&mut responder, &sync, !last);
    // The namespace of an invalid container may still exist.
    let gone = known.attachments.into_iter().filter(|attachment| !valid.contains(&attachment.key));
    for (path, recorded, key) in
        gone.filter_map(|attachment| Some((attachment.netns?, attachment.namespace, attachment.key)))
    {
        log_failure(container::remove_rules(&path, recorded, &key.on(&request.network)));
    }
    Ok(())
}
