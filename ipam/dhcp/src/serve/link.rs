//! The address on the link, when it changes or its time is over.

use std::path::Path;
use std::time::Duration;

use netlink::NewAddress;
use sys::Result;

use crate::record::Record;
use crate::wire::Place;

/// Takes the address of a record off its link.
///
/// # Errors
/// The kernel refused; an address that is not there is no error.
pub fn take_off(place: &Place, record: &Record) -> Result<()> {
    let Some(net) = record.terms.net() else { return Ok(()) };
    let done = place.netlink.delete_address(place.link.index, net);
    done.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

/// Puts the address of a record on its link, with its routes. The kernel removed the routes with the
/// last address.
///
/// # Errors
/// The kernel refused; what is there is no error.
pub fn put_on(place: &Place, record: &Record) -> Result<()> {
    let there = |done: Result<()>| done.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) });
    let Some(net) = record.terms.net() else { return Ok(()) };
    let address = NewAddress { index: place.link.index, net, nodad: false };
    there(place.netlink.add_address(&address))?;
    let mut routes = record.terms.routes(record.priority, place.link.mtu, place.link.index);
    // A router may be reached by a route to the link.
    routes.sort_by_key(|route| route.gateway.is_some());
    routes.iter().try_for_each(|route| there(place.netlink.add_route(route, true)))
}

/// Has the kernel remove the address of a record when its time is over, even if no daemon runs then.
/// Returns false if the address is not on the link: the interface's plugin may not have put it there
/// yet.
///
/// # Errors
/// The kernel refused.
pub fn limit(place: &Place, record: &Record, left: Duration, preferred: Duration) -> Result<bool> {
    let Some(net) = record.terms.net() else { return Ok(true) };
    if !place.netlink.addresses(Some(place.link.index))?.iter().any(|held| held.net == net) {
        return Ok(false);
    }
    // The daemon, which counts finer, comes first.
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).min(u32::MAX - 3) + 2;
    place.netlink.limit_address(place.link.index, net, seconds(left), seconds(preferred)).map(|()| true)
}

/// The place of a record's link.
///
/// # Errors
/// See [`Place::of_record`].
pub fn place(path: &Path, record: &Record) -> std::result::Result<Place, crate::wire::Missing> {
    Place::of_record(path, record.namespace, record.index)
}
