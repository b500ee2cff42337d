//! Flowtables: packets of a connection in one bypass routing and the rules from the ingress of a link
//! on (Documentation/networking/nf_flowtable.rst).

use netlink::attr::{Attrs, Malformed, Writer};
use netlink::message::NLM_F_CREATE;
use sys::Result;

use super::object::Flowtable;
use super::read::{found, request};
use super::uapi::NFGENMSG;
use super::{Batch, Nft};

/// enum nf_tables_msg_types.
const NEWFLOWTABLE: u16 = 22;
const GETFLOWTABLE: u16 = 23;
const DELFLOWTABLE: u16 = 24;

const NFTA_FLOWTABLE_TABLE: u16 = 1;
const NFTA_FLOWTABLE_NAME: u16 = 2;
const NFTA_FLOWTABLE_HOOK: u16 = 3;
const NFTA_FLOWTABLE_HOOK_NUM: u16 = 1;
const NFTA_FLOWTABLE_HOOK_PRIORITY: u16 = 2;
const NFTA_FLOWTABLE_HOOK_DEVS: u16 = 3;
const NFTA_DEVICE_NAME: u16 = 1;
/// NF_NETDEV_INGRESS (linux/netfilter.h), at the priority `filter`.
const INGRESS: u32 = 0;
const PRIORITY: u32 = 0;

impl Batch {
    /// Adds a flowtable, or these links to an existing one (since Linux 5.8); links that are in it
    /// stay. A link must exist, and leaves by itself when it is deleted.
    pub fn add_flowtable(&mut self, flowtable: &Flowtable<'_>, links: &[&str]) {
        self.push(NEWFLOWTABLE, NLM_F_CREATE, &flowtable.table, "add", flowtable.to_string(), |w| {
            name(w, flowtable);
            w.nest(NFTA_FLOWTABLE_HOOK, |w| {
                w.be32(NFTA_FLOWTABLE_HOOK_NUM, INGRESS);
                w.be32(NFTA_FLOWTABLE_HOOK_PRIORITY, PRIORITY);
                devices(w, links);
            });
        });
    }

    /// Deletes links from a flowtable (since Linux 5.8); each must be in it (ENOENT).
    pub fn del_flowtable_links(&mut self, flowtable: &Flowtable<'_>, links: &[&str]) {
        if links.is_empty() {
            return;
        }
        let object = format!("links of {flowtable}");
        self.push(DELFLOWTABLE, 0, &flowtable.table, "delete", object, |w| {
            name(w, flowtable);
            w.nest(NFTA_FLOWTABLE_HOOK, |w| {
                w.be32(NFTA_FLOWTABLE_HOOK_NUM, INGRESS);
                w.be32(NFTA_FLOWTABLE_HOOK_PRIORITY, PRIORITY);
                devices(w, links);
            });
        });
    }

    /// Deletes a flowtable; no rule may use it any more (EBUSY).
    pub fn del_flowtable(&mut self, flowtable: &Flowtable<'_>) {
        self.push(DELFLOWTABLE, 0, &flowtable.table, "delete", flowtable.to_string(), |w| {
            name(w, flowtable);
        });
    }
}

impl Nft {
    /// The links of a flowtable; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn flowtable(&self, flowtable: &Flowtable<'_>) -> Result<Option<Vec<String>>> {
        let request = request(GETFLOWTABLE, &flowtable.table, |w| name(w, flowtable));
        found(self.socket.get(request, |payload| Ok(read(payload)?)))
            .map_err(|refusal| refusal.on("get", flowtable.to_string()))
    }
}

fn name(w: &mut Writer, flowtable: &Flowtable<'_>) {
    w.string(NFTA_FLOWTABLE_TABLE, flowtable.table.name);
    w.string(NFTA_FLOWTABLE_NAME, flowtable.name);
}

fn devices(w: &mut Writer, links: &[&str]) {
    if !links.is_empty() {
        w.nest(NFTA_FLOWTABLE_HOOK_DEVS, |w| {
            links.iter().for_each(|link| w.string(NFTA_DEVICE_NAME, link));
        });
    }
}

/// Reads the links.
pub(super) fn read(payload: &[u8]) -> std::result::Result<Vec<String>, Malformed> {
    let mut links = Vec::new();
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        if attr.kind != NFTA_FLOWTABLE_HOOK {
            continue;
        }
        for attr in attr.nested() {
            let attr = attr?;
            if attr.kind == NFTA_FLOWTABLE_HOOK_DEVS {
                for device in attr.nested() {
                    links.push(device?.string());
                }
            }
        }
    }
    Ok(links)
}
