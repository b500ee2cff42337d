//! DEL: removes by key, without any other input.

use cni::{Error, Request};

use super::remove_network;
use crate::control::ControlRequest;
use crate::record::{Mode, StateDir};
use crate::responder::ResponderClient;
use crate::{config, container, dnsname, locate, plan, restore};

/// Removes the container's names. Success if they are gone already.
///
/// # Errors
/// Something failed that a retry may do.
pub fn del(request: &Request) -> Result<(), Error> {
    let (state_dir, socket) = locate::state_dir(config::state_dir_for_del(request).as_deref())?;
    if !state_dir.dir().exists() && !restore::is_due(&state_dir) {
        return dnsname::forget(&state_dir, request);
    }
    let mut responder = ResponderClient::new(&state_dir, socket);
    let _lock = state_dir.lock()?;
    restore::restore(&state_dir)?;
    remove_container(&state_dir, &mut responder, request, true)
}

/// Removes all that ADD made. `revive`: starts a responder that other containers need.
pub(super) fn remove_container(
    state_dir: &StateDir,
    responder: &mut ResponderClient<'_>,
    request: &Request,
    revive: bool,
) -> Result<(), Error> {
    let (network, key) = (&request.network, plan::key(request));
    let record = state_dir.attachment(network, &key);
    if let Err(error) = &record {
        eprintln!(
            "dns: the record of container {} is removed although it cannot be read: {error}",
            key.container
        );
    }
    // An unreadable record, or one that a killed DEL removed, does not show whether there are rules
    // in the container.
    let netns = match &record {
        Ok(Some(attachment)) => attachment.netns.clone().map(|path| (path, attachment.namespace)),
        _ => Some((request.netns.clone(), None))
            .filter(|(path, _)| !path.is_empty() && may_have_container_rules(state_dir, network)),
    };
    if !state_dir.remove_attachment(network, &key)? {
        dnsname::forget(state_dir, request)?;
    }
    let last = state_dir.is_empty(network)?;
    let _rules = if last { remove_network(state_dir, network)? } else { None };
    let sync = ControlRequest::Sync { network: network.clone(), key: Some(key) };
    // Without a responder there is nobody to notify.
    notify(responder, &sync, !last && revive);
    match netns {
        Some((path, recorded)) => container::remove_rules(&path, recorded, &plan::key(request).on(network)),
        None => Ok(()),
    }
}

/// Whether containers of the network may have rules in their namespaces.
fn may_have_container_rules(state_dir: &StateDir, network: &str) -> bool {
    !matches!(state_dir.network(network), Ok(Some(network)) if network.mode == Mode::Gateway)
}

/// Makes the responder read what was removed. `revive`: starts one that other containers need.
/// A failure does not fail DEL: the responder also notices the removal itself (inotify), as
/// soon as it runs.
pub(super) fn notify(responder: &mut ResponderClient<'_>, sync: &ControlRequest, revive: bool) {
    match responder.call_if_running(sync, &[]) {
        Ok(false) if revive => log_failure(responder.call(sync, &[])),
        Ok(_) => {}
        Err(error) => log_failure(Err(error)),
    }
}

/// Logs a failure that does not fail the command: the container's names are removed, and others
/// are affected only.
pub(super) fn log_failure(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        eprintln!("dns: {}", error.msg);
    }
}
