//! ADD: puts on record what is there, changes it, and reports what the kernel made of it.

use cni::{AddResult, Error, Interface, Request, Version};
use host::Namespace;
use host::piece::{Kernel, Making, Piece, Place, TunedParameter};
use netlink::Link;
use sys::{NetNs, clock};

use crate::backup;
use crate::config::Config;
use crate::container::space;
use crate::parameter::is_of_link;
use crate::plan::{self, Facts};
use crate::record::Record;
use crate::store::{Store, siblings};

/// Sets everything that is configured; the result has the link as it is then.
///
/// # Errors
/// Any error of a piece; nothing is left behind.
pub fn add(request: &Request, config: &Config, previous: AddResult) -> Result<AddResult, Error> {
    let ifname = &request.ifname;
    let netns = NetNs::open(&request.netns)?;
    attach::mtu::refuse_for(config.link.mtu, previous.ips.iter().map(|ip| &ip.address))?;
    let inode = netns.inode()?;
    let mut kernel = Kernel::open(netns)?;
    let link = match config.link.is_empty() {
        true => kernel.netlink(Place::Sandbox)?.link_by_name(ifname)?,
        false => Some(kernel.link(Place::Sandbox, ifname)?),
    };
    let store = Store::open()?;
    let facts = facts(config, link.as_ref(), &kernel)?;
    let mut record = Record {
        owner: attach::owner(request),
        netns: Namespace::at(&request.netns),
        space: space(inode, kernel.netlink(Place::Sandbox)?),
        index: link.as_ref().map_or(0, |link| link.index),
        at: clock::since_boot()?,
        backup: None,
        link: Default::default(),
        parameters: Vec::new(),
    };
    let earlier = store.read(&record.owner).filter(|it| it.is_about(&record.space, record.index));
    if let Some(earlier) = &earlier {
        record.link = earlier.link;
        record.backup = earlier.backup.clone();
        record.parameters = earlier.parameters.clone();
    }
    let is_shared = config.parameters.iter().any(|parameter| !is_of_link(&parameter.key, ifname));
    let siblings = if is_shared { siblings(&store, &record.owner, &record.space)? } else { Vec::new() };
    record.keep(&config.parameters, &facts, &siblings);
    if record.backup.is_none() && !record.link.is_empty() {
        record.backup = backup::path(&config.data_dir, &record.owner);
    }
    let made = change(&mut kernel, &store, &mut record, &plan::plan(config, ifname, &facts));
    match made {
        Ok(link) => Ok(with_link(previous, request, config, link.as_ref())),
        Err(error) => {
            forget(&store, &record, earlier.as_ref());
            Err(error)
        }
    }
}

fn facts(config: &Config, link: Option<&Link>, kernel: &Kernel) -> Result<Facts, Error> {
    let keys = config.parameters.iter().map(|parameter| parameter.key.as_str());
    Ok(Facts {
        link: link.map(|link| config.link.of(link)).unwrap_or_default(),
        parameters: TunedParameter::read(kernel, keys)?,
    })
}

/// Writes the record first, then changes the kernel, and reads back what it did: an acknowledgement
/// is no proof. Returns the link.
fn change(
    kernel: &mut Kernel,
    store: &Store,
    record: &mut Record,
    pieces: &[Piece],
) -> Result<Option<Link>, Error> {
    store.write(record)?;
    if let Some(path) = &record.backup {
        backup::write(path, &record.link)?;
    }
    let making = Making::begin(kernel, pieces)?;
    let mut link = None;
    for piece in pieces {
        match piece {
            Piece::TunedLink(tuned) => {
                let found = making.kernel().link(Place::Sandbox, &tuned.link)?;
                attach::refuse_drift(&record.owner, &tuned.settings.drifts(&found))?;
                link = Some(found);
            }
            Piece::TunedParameters(tuned) => {
                let keys = tuned.settings.iter().map(|setting| setting.key.as_str());
                let printed = TunedParameter::read(making.kernel(), keys.clone())?;
                let mut notes = false;
                for (key, printed) in keys.zip(printed) {
                    notes |= printed.is_some_and(|printed| record.note(key, printed));
                }
                if notes {
                    store.write(record)?;
                }
            }
            _ => {}
        }
    }
    making.keep();
    Ok(link)
}

/// After a failure: the record and the backup of an earlier ADD, or none.
fn forget(store: &Store, record: &Record, earlier: Option<&Record>) {
    // Their errors are dropped: ADD's own must be reported, and DEL tries again.
    if earlier.is_none_or(|earlier| earlier.backup.is_none()) {
        let _ = backup::remove(record);
    }
    let _ = match earlier {
        Some(earlier) => store.write(earlier),
        None => store.remove(&record.owner),
    };
}

/// The result with what the link has now, as the kernel prints it.
fn with_link(mut result: AddResult, request: &Request, config: &Config, link: Option<&Link>) -> AddResult {
    let ifname = &request.ifname;
    let Some(link) = link else { return result };
    let in_container =
        |interface: &Interface| interface.sandbox.as_deref().is_some_and(|path| !path.is_empty());
    let is_known = result.interfaces.iter().any(|it| it.name == *ifname && in_container(it));
    for interface in result.interfaces.iter_mut().filter(|it| it.name == *ifname) {
        if is_known && !in_container(interface) {
            continue;
        }
        if let (Some(_), Some(mac)) = (config.link.mac, link.mac) {
            interface.mac = Some(mac.to_string());
        }
        if config.link.mtu.is_some() && request.version >= Version::V1_1_0 {
            interface.mtu = Some(link.mtu);
        }
    }
    result
}
