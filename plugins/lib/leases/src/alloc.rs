//! Allocates addresses: one of each range set, or none at all.

use std::net::IpAddr;

use cni::IpConfig;
use sys::file::Draft;

use crate::error::AllocError;
use crate::lease::Holder;
use crate::range::{Exclude, RangeSet};
use crate::store::{Store, claim};

/// The addresses that may be allocated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The range sets; their indices are those of `last_reserved_ip.<i>`.
    pub sets: Vec<RangeSet>,
    /// Addresses that are never allocated.
    pub exclude: Exclude,
    /// Whether a holder that has an address of a set, and not an excluded one, keeps it; otherwise
    /// that is an error.
    pub keep: bool,
    /// For so many seconds a released address is not allocated again, unless no other is free.
    pub cooldown: u64,
}

/// Leases an address of each set to the holder: the first requested address of the set, otherwise
/// the next free one. On an error it releases the leases of this call, and no others.
pub fn allocate(
    store: &mut Store,
    offer: &Offer,
    requested: &[IpAddr],
    holder: &Holder,
    container_id: &str,
) -> Result<Vec<IpConfig>, AllocError> {
    let mut taken = Vec::with_capacity(offer.sets.len());
    let made = allocate_all(store, offer, requested, holder, container_id, &mut taken);
    let done = match made {
        Ok(ips) => Ok(ips),
        Err(error) => Err(take_back(store, &taken, holder, error)),
    };
    store.commit();
    done
}

fn take_back(store: &mut Store, taken: &[IpAddr], holder: &Holder, error: AllocError) -> AllocError {
    let mut left = None;
    for ip in taken.iter().rev() {
        left = left.or(store.take_back(*ip, holder).err());
    }
    match left {
        None => error,
        Some(cause) => AllocError::NotTakenBack(Box::new(error), cause),
    }
}

fn allocate_all(
    store: &mut Store,
    offer: &Offer,
    requested: &[IpAddr],
    holder: &Holder,
    container_id: &str,
    taken: &mut Vec<IpAddr>,
) -> Result<Vec<IpConfig>, AllocError> {
    // Requests that cannot be served fail before anything is leased.
    let asked = assign(offer, requested)?;
    let held = store.held(holder)?;
    store.record_boot();
    let mut ips = Vec::with_capacity(offer.sets.len());
    for (index, (set, asked)) in offer.sets.iter().zip(asked).enumerate() {
        let in_set = |cause: AllocError| AllocError::InSet(index, Box::new(cause));
        let counts =
            |ip: &IpAddr| set.range_of(*ip).is_some() && !(offer.keep && offer.exclude.contains(*ip));
        let ip = match held.iter().copied().find(counts) {
            Some(ip) if offer.keep && asked.is_none_or(|asked| asked == ip) => ip,
            Some(ip) => {
                return Err(in_set(AllocError::Duplicate { ip, container_id: container_id.to_owned() }));
            }
            None => {
                let ip = match asked {
                    Some(ip) => take_requested(store, offer, set, ip, holder),
                    None => take_next(store, offer, set, index, holder),
                };
                let ip = ip.map_err(in_set)?;
                // From here on the roll-back releases it.
                taken.push(ip);
                store.enter(ip, holder);
                store.set_last_reserved(index, ip).map_err(|cause| in_set(cause.into()))?;
                ip
            }
        };
        let Some((address, gateway)) = set.describe(ip) else { continue };
        ips.push(IpConfig { interface: None, address, gateway: Some(gateway) });
    }
    store.sync()?;
    Ok(ips)
}

/// Assigns the requested addresses to sets: each set gets the first one of its own that no previous
/// set has.
fn assign(offer: &Offer, requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, AllocError> {
    let mut left = requested.to_vec();
    let of_set = |set: &RangeSet| {
        let at = left.iter().position(|ip| set.range_of(*ip).is_some())?;
        Some(left.remove(at))
    };
    let asked = offer.sets.iter().map(of_set).collect();
    if left.is_empty() { Ok(asked) } else { Err(AllocError::Unserved(left)) }
}

fn take_requested(
    store: &Store,
    offer: &Offer,
    set: &RangeSet,
    ip: IpAddr,
    holder: &Holder,
) -> Result<IpAddr, AllocError> {
    if let Some(range) = set.range_of(ip)
        && let Some(why) = range.reserved(ip)
    {
        return Err(AllocError::Reserved { ip, why, subnet: range.subnet });
    }
    if offer.exclude.contains(ip) {
        return Err(AllocError::Excluded(ip));
    }
    let mut draft = store.draft(holder)?;
    if claim(&mut draft, ip)? || (store.clear_empty(ip)? && claim(&mut draft, ip)?) {
        return Ok(ip);
    }
    Err(AllocError::Taken { ip, set: set.to_string() })
}

fn take_next(
    store: &Store,
    offer: &Offer,
    set: &RangeSet,
    index: usize,
    holder: &Holder,
) -> Result<IpAddr, AllocError> {
    let candidates = set.candidates(store.last_reserved(index), &offer.exclude);
    let mut draft = store.draft(holder)?;
    let first_of = |ips: &mut dyn Iterator<Item = IpAddr>, draft: &mut Draft<'_>| {
        for ip in ips {
            if claim(draft, ip)? {
                return Ok(Some(ip));
            }
        }
        Ok::<_, AllocError>(None)
    };
    if offer.cooldown > 0 {
        let cooling_down = store.cooling_down(offer.cooldown);
        let mut usable = candidates.clone().filter(|ip| !cooling_down.contains(ip));
        if let Some(ip) = first_of(&mut usable, &mut draft)? {
            return Ok(ip);
        }
    }
    // The first free address in round-robin order; without another it is one in its cool-down, and
    // was released about the longest ago.
    if let Some(ip) = first_of(&mut candidates.clone(), &mut draft)? {
        return Ok(ip);
    }
    for ip in candidates {
        if store.clear_empty(ip)? && claim(&mut draft, ip)? {
            return Ok(ip);
        }
    }
    Err(AllocError::Exhausted(set.to_string()))
}
