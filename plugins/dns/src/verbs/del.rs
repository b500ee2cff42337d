//! DEL: by key, whatever else there is.

use cni::{Error, Request};
use nft::Nft;

use super::retire_network;
use crate::control::Ask;
use crate::record::{Mode, Place};
use crate::responder::Responder;
use crate::{config, container, dnsname, place, plan, restore};

/// Forgets the container. What is gone already is no error.
///
/// # Errors
/// Something could not be done now, and a retry could.
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

/// Takes back all that ADD made; `revive`s a responder that others of the network need.
pub(super) fn withdraw(
    place: &Place,
    responder: &mut Responder<'_>,
    request: &Request,
    revive: bool,
) -> Result<[Option<Nft>; 2], Error> {
    let (network, key) = (&request.network, plan::key(request));
    let record = place.attachment(network, &key);
    if let Err(error) = &record {
        eprintln!("dns: the record of container {} is removed unread: {error}", key.container);
    }
    // Whether there are rules in the container is not known of what cannot be read, or was removed by a killed DEL.
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
    // A responder that is not there answers for nobody.
    notify(responder, &ask, !last && revive);
    let inside = match netns {
        Some((path, recorded)) => container::clear(&path, recorded, &plan::key(request).on(network))?,
        None => None,
    };
    Ok([rules, inside])
}

/// Whether containers of the network may have rules of their own.
fn in_containers(place: &Place, network: &str) -> bool {
    !matches!(place.network(network), Ok(Some(network)) if network.mode == Mode::Gateway)
}

/// Has the responder read what was removed; `revive`s one that others need. It answers for a container that is not
/// recorded any more only until it has read that, and it reads by itself (inotify) as soon as it can: one that is
/// stopped, or cannot serve others, is no failure of DEL.
pub(super) fn notify(responder: &mut Responder<'_>, ask: &Ask, revive: bool) {
    match responder.ask_if_there(ask, &[]) {
        Ok(false) if revive => log(responder.ask(ask, &[])),
        Ok(_) => {}
        Err(error) => log(Err(error)),
    }
}

/// The container is forgotten; that others are not served as they should be is no failure of that.
pub(super) fn log(outcome: Result<(), Error>) {
    if let Err(error) = outcome {
        eprintln!("dns: {}", error.msg);
    }
}
