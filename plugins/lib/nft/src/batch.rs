//! A transaction: changes that the kernel makes together or not at all.

use netlink::attr::{Malformed, Writer};
use netlink::message::{NLM_F_CREATE, NLM_F_EXCL, Request};
use sys::{Error, Result};

use super::element::Element;
use super::object::{Base, Chain, Data, Set, Table};
use super::rule::Rule;
use super::uapi::*;
use super::{udata, value};

/// linux/netlink.h: for NEWRULE, append to the chain instead of inserting at its head.
const NLM_F_APPEND: u16 = 0x800;
/// The most elements in one message: their list is one attribute with a 16-bit length.
const ELEMENTS_MAX: usize = 400;
/// The most bytes of elements in one message, for the same reason.
const ELEMENTS_BYTES: usize = 60_000;

/// Changes to be committed together, in this order. Dropped, they are never made.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
    /// Whether a change deletes something.
    pub(super) deletes: bool,
    sets: u32,
    fault: Option<Error>,
}

/// A message, and the context of its error.
#[derive(Debug)]
pub(super) struct Part {
    /// Offset of its end in the batch's bytes.
    pub(super) end: usize,
    pub(super) op: &'static str,
    pub(super) object: String,
    /// The types of its elements' keys, if it carries elements.
    pub(super) key: Option<&'static [value::Type]>,
}

impl Batch {
    /// Creates an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.fault.is_none()
    }

    /// Adds a table; an existing one stays as it is.
    pub fn add_table(&mut self, table: &Table<'_>, comment: Option<&str>) {
        self.push(NEWTABLE, NLM_F_CREATE, table, "add", named("table", table), |w| {
            w.string(NFTA_TABLE_NAME, table.name);
            w.be32(NFTA_TABLE_FLAGS, 0);
            write_comment(w, NFTA_TABLE_USERDATA, comment);
        });
    }

    /// Deletes a table and everything in it.
    pub fn del_table(&mut self, table: &Table<'_>) {
        self.push(DELTABLE, 0, table, "delete", named("table", table), |w| {
            w.string(NFTA_TABLE_NAME, table.name);
        });
    }

    /// Adds a chain; an existing one stays as it is, but must have the same base (EEXIST
    /// otherwise).
    pub fn add_chain(&mut self, chain: &Chain<'_>, base: Option<&Base>, comment: Option<&str>) {
        self.push(NEWCHAIN, NLM_F_CREATE, &chain.table, "add", named("chain", chain), |w| {
            w.string(NFTA_CHAIN_TABLE, chain.table.name);
            w.string(NFTA_CHAIN_NAME, chain.name);
            if let Some(base) = base {
                w.nest(NFTA_CHAIN_HOOK, |w| {
                    w.be32(NFTA_HOOK_HOOKNUM, base.hook.number());
                    w.be32(NFTA_HOOK_PRIORITY, base.priority.cast_unsigned());
                });
                w.be32(NFTA_CHAIN_POLICY, base.policy.number());
                w.string(NFTA_CHAIN_TYPE, base.kind.name());
            }
            write_comment(w, NFTA_CHAIN_USERDATA, comment);
        });
    }

    /// Deletes a chain with its rules; nothing may jump to it any more (EBUSY).
    pub fn del_chain(&mut self, chain: &Chain<'_>) {
        self.push(DELCHAIN, 0, &chain.table, "delete", named("chain", chain), |w| {
            w.string(NFTA_CHAIN_TABLE, chain.table.name);
            w.string(NFTA_CHAIN_NAME, chain.name);
        });
    }

    /// Deletes the rules of a chain.
    pub fn flush_chain(&mut self, chain: &Chain<'_>) {
        self.push(DELRULE, 0, &chain.table, "flush", named("chain", chain), |w| {
            w.string(NFTA_RULE_TABLE, chain.table.name);
            w.string(NFTA_RULE_CHAIN, chain.name);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &Chain<'_>, rule: &Rule) {
        self.rule(chain, rule, NLM_F_CREATE | NLM_F_APPEND);
    }

    /// Adds a rule at the head of a chain.
    pub fn insert_rule(&mut self, chain: &Chain<'_>, rule: &Rule) {
        self.rule(chain, rule, NLM_F_CREATE);
    }

    fn rule(&mut self, chain: &Chain<'_>, rule: &Rule, flags: u16) {
        self.push(NEWRULE, flags, &chain.table, "add", named("rule to chain", chain), |w| {
            w.string(NFTA_RULE_TABLE, chain.table.name);
            w.string(NFTA_RULE_CHAIN, chain.name);
            rule.write(w);
        });
    }

    /// Deletes a rule by the handle from a listing.
    pub fn del_rule(&mut self, chain: &Chain<'_>, handle: u64) {
        let object = format!("rule {handle} of chain {chain}");
        self.push(DELRULE, 0, &chain.table, "delete", object, |w| {
            w.string(NFTA_RULE_TABLE, chain.table.name);
            w.string(NFTA_RULE_CHAIN, chain.name);
            w.bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes());
        });
    }

    /// Adds a set or map; an existing one stays as it is, but must have the same types (EEXIST
    /// otherwise).
    pub fn add_set(&mut self, set: &Set<'_>, comment: Option<&str>) {
        self.sets = self.sets.wrapping_add(1);
        let id = self.sets;
        self.push(NEWSET, NLM_F_CREATE, &set.table, "add", set.to_string(), |w| {
            w.string(NFTA_SET_TABLE, set.table.name);
            w.string(NFTA_SET_NAME, set.name);
            w.be32(NFTA_SET_FLAGS, set_flags(set));
            w.be32(NFTA_SET_KEY_TYPE, value::type_id(set.key));
            w.be32(NFTA_SET_KEY_LEN, number(value::length(set.key)));
            write_data_type(w, set.data);
            w.be32(NFTA_SET_ID, id);
            if set.interval && set.key.len() > 1 {
                w.nest(NFTA_SET_DESC, |w| {
                    w.nest(NFTA_SET_DESC_CONCAT, |w| {
                        for part in set.key {
                            w.nest(NFTA_LIST_ELEM, |w| w.be32(NFTA_SET_FIELD_LEN, number(part.length())));
                        }
                    });
                });
            }
            match set_userdata(set, comment) {
                Ok(bytes) => w.bytes(NFTA_SET_USERDATA, &bytes),
                Err(Malformed(fault)) => w.fail(fault),
            }
        });
    }

    /// Deletes a set or map with its elements; no rule may use it any more (EBUSY).
    pub fn del_set(&mut self, set: &Set<'_>) {
        self.push(DELSET, 0, &set.table, "delete", set.to_string(), |w| {
            w.string(NFTA_SET_TABLE, set.table.name);
            w.string(NFTA_SET_NAME, set.name);
        });
    }

    /// Deletes all elements of a set or map.
    pub fn flush_set(&mut self, set: &Set<'_>) {
        self.push(DELSETELEM, 0, &set.table, "flush", set.to_string(), |w| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, set.table.name);
            w.string(NFTA_SET_ELEM_LIST_SET, set.name);
        });
    }

    /// Adds elements. An existing one with the same data stays as it is, comment included; one with
    /// other data is a conflict (EEXIST).
    pub fn add_elements(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.elements(NEWSETELEM, NLM_F_CREATE, set, elements, "add");
    }

    /// Adds elements, none of which may exist (EEXIST).
    pub fn create_elements(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.elements(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, set, elements, "create");
    }

    /// Deletes elements by their keys; all must exist (ENOENT).
    pub fn del_elements(&mut self, set: &Set<'_>, elements: &[Element]) {
        self.elements(DELSETELEM, 0, set, elements, "delete");
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &Set<'_>, elements: &[Element], op: &'static str) {
        let mut rest = elements;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fitting = rest
                .iter()
                .take(ELEMENTS_MAX)
                .take_while(|element| {
                    bytes += element.size_bound();
                    bytes <= ELEMENTS_BYTES
                })
                .count();
            // An element that is too long by itself is sent and refused.
            let (now, later) = rest.split_at(fitting.max(1).min(rest.len()));
            rest = later;
            self.push(kind, flags, &set.table, op, set.to_string(), |w| {
                w.string(NFTA_SET_ELEM_LIST_TABLE, set.table.name);
                w.string(NFTA_SET_ELEM_LIST_SET, set.name);
                w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                    for element in now {
                        if let Err(Malformed(fault)) = element.write(set, kind == NEWSETELEM, w) {
                            w.fail(fault);
                        }
                    }
                });
            });
            if let Some(part) = self.parts.last_mut() {
                part.key = Some(set.key);
            }
        }
    }

    pub(super) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        table: &Table<'_>,
        op: &'static str,
        object: String,
        fill: impl FnOnce(&mut Writer),
    ) {
        self.deletes |= matches!(kind, DELTABLE | DELCHAIN | DELRULE | DELSET | DELSETELEM);
        let mut request = Request::new(SUBSYSTEM | kind, flags, &[table.family.number(), 0, 0, 0]);
        fill(&mut request.attrs);
        match request.finish(0) {
            Ok(bytes) => {
                self.bytes.extend_from_slice(&bytes);
                self.parts.push(Part { end: self.bytes.len(), op, object, key: None });
            }
            Err(malformed) => {
                self.fault.get_or_insert(Error::new(op, object, malformed));
            }
        }
    }

    /// The first fault in the batch's content.
    pub(super) fn check(&mut self) -> Result<()> {
        self.fault.take().map_or(Ok(()), Err)
    }
}

fn named(noun: &str, object: &impl std::fmt::Display) -> String {
    format!("{noun} {object}")
}

/// Lengths here are below a hundred.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn write_comment(w: &mut Writer, kind: u16, comment: Option<&str>) {
    let Some(comment) = comment else { return };
    let mut bytes = Vec::new();
    match udata::text(&mut bytes, UDATA_COMMENT, comment) {
        Ok(()) => w.bytes(kind, &bytes),
        Err(Malformed(fault)) => w.fail(fault),
    }
}

pub(super) fn set_flags(set: &Set<'_>) -> u32 {
    let mut flags = 0;
    if set.interval {
        flags |= NFT_SET_INTERVAL;
    }
    if set.data != Data::None {
        flags |= NFT_SET_MAP;
    }
    // Without intervals a concatenation is hashed as one key, which any set supports.
    if set.interval && set.key.len() > 1 {
        flags |= NFT_SET_CONCAT;
    }
    flags
}

/// The type and length of a set's data, if it is a map.
pub(super) fn data_type(data: Data) -> Option<(u32, usize)> {
    match data {
        Data::None => None,
        Data::Verdict => Some((NFT_DATA_VERDICT, 0)),
        Data::Value(types) => Some((value::type_id(types), value::length(types))),
        Data::Range(types) => {
            let length = value::length(types).next_multiple_of(value::REGISTER);
            Some((value::type_id(types), 2 * length))
        }
    }
}

fn write_data_type(w: &mut Writer, data: Data) {
    if let Some((id, length)) = data_type(data) {
        w.be32(NFTA_SET_DATA_TYPE, id);
        if length > 0 {
            w.be32(NFTA_SET_DATA_LEN, number(length));
        }
    }
}

/// The user data by which nft shows the set with its types.
fn set_userdata(set: &Set<'_>, comment: Option<&str>) -> std::result::Result<Vec<u8>, Malformed> {
    let mut bytes = Vec::new();
    udata::number(&mut bytes, UDATA_SET_KEYBYTEORDER, value::byte_order(set.key));
    if let Data::Value(types) | Data::Range(types) = set.data {
        udata::number(&mut bytes, UDATA_SET_DATABYTEORDER, value::byte_order(types));
    }
    if let Data::Range(_) = set.data {
        udata::number(&mut bytes, UDATA_SET_DATA_INTERVAL, 1);
    }
    if let Some(comment) = comment {
        udata::text(&mut bytes, UDATA_SET_COMMENT, comment)?;
    }
    if bytes.len() > USERDATA_MAX {
        return Err(Malformed("a set's comment is too long"));
    }
    Ok(bytes)
}
