//! DEL: removes by key, without any other input.

use cni::{Error, Request};
use nft::Nft;

use super::retire_network;
use crate::control::Ask;
use crate::record::{Mode, Place};
use crate::responder::Responder;
use crate::{config, container, dnsname, place, plan, restore};

/// Removes the container's names. Success if they are gone already.
///
/// # Errors
/// Something failed that a retry may do.
pub fn del(request: &Request) -> Result<(), Error> {
    let (place, socket) = place::here(config::state_dir_for_del(request).as_deref())?;
    if !place.dir().exists() && !restore::is_due(&place) {
        return dnsname::forget(&place, request);
    }
    let mut responder = Responder::new(&place, socket);
    let _lock = place.lock()?;
    restore::restore(&place)?;
    let rules = withdraw(&place, &mut responder, request, true)?;
    rules.into_iter().flatten().for_each(Nft::close_in_background);
    Ok(())
}

/// Removes all that ADD made. `revive`: starts a responder that other containers need.
pub(super) fn withdraw(
    place: &Place,
    responder: &mut Responder<'_>,
    request: &Request,
    revive: bool,
) -> Result<[Option<Nft>; 2], Error> {
    let (network, key) = (&request.network, plan::key(request));
    let record = place.attachment(network, &key);
    if let Err(error) = &record {
        eprintln!(
            "dns: the record of container {} is removed although it cannot be read: {error}",
            key.container
        );
    }
    // An unreadable record, or one that a killed DEL removed, does not tell whether there
    // are rules in the container.
    let netns = match &record {
        Ok(Some(attachment)) => attachment.netns.clone().map(|path| (path, attachment.namespace)),
        _ => Some((request.netns.clone(), None))
            .filter(|(path, _)| !path.is_empty() && in_containers(place, network)),
    };
    if !place.remove_attachment(network, &key)? {
        dnsname::forget(place, request)?;
    }
    let last = place.is_empty(network)?;
    let rules = if last { retire_network(place, network)? } else { None };
    let ask = Ask::Sync { network: network.clone(), key: Some(key) };
    // Without a responder there is nobody to notify.
    notify(responder, &ask, !last && revive);
    let inside = match netns {
        Some((path, recorded)) => container::clear(&path, recorded, &plan::key(request).on(network))?,
        None => None,
    };
    Ok([rules, inside])
}

/// Whether containers of the network may have rules in their namespaces.
fn in_containers(place: &Place, network: &str) -> bool {
    !matches!(place.network(network), Ok(Some(network)) if network.mode == Mode::Gateway)
}

/// Makes the responder read what was removed. `revive`: starts one that other containers need.
/// A failure does not fail DEL: the responder also notices the removal itself (inotify), as
/// soon as it runs.
pub(super) fn notify(responder: &mut Responder<'_>, ask: &Ask, revive: bool) {
    match responder.ask_if_there(ask, &[]) {
        Ok(false) if revive => log(responder.ask(ask, &[])),
        Ok(_) => {}
        Err(error) => log(Err(error)),
    }
}

/// Logs a failure that does not fail the command: the container's names are removed, and others
/// are affected only.
pub(super) fn log(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        eprintln!("dns: {}", error.msg);
    }
}
