//! Filters: those of `u32`, which compare words of a packet's header.

use libc::{RTM_DELTFILTER, RTM_GETTFILTER, RTM_NEWTFILTER};
use sys::Result;

use super::{Description, Handle, TCA_KIND, TCA_OPTIONS, request, word};
use crate::Netlink;
use crate::attr::{Attr, Malformed, Writer};
use crate::message::{NLM_F_CREATE, NLM_F_EXCL};

/// linux/pkt_cls.h, options of `u32`.
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
/// `struct tc_u32_sel`: u8 flags, u8, u8 number of keys, u8 padding, four u16, u32; then the keys,
/// of four u32 each.
const SELECTOR: usize = 16;
const KEY: usize = 16;
const TC_U32_TERMINAL: u8 = 1;
/// linux/pkt_cls.h, attributes of an action.
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
/// linux/tc_act/tc_mirred.h: `struct tc_mirred` is u32 index, u32, i32 action, i32, i32, i32
/// direction, u32 link.
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
const TC_ACT_STOLEN: u32 = 4;

/// A filter of a queueing discipline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Filters are asked in this order; 0 lets the kernel choose.
    pub priority: u16,
    /// The protocol of its packets (ETH_P_*, linux/if_ether.h).
    pub protocol: u16,
    /// Its number among those of its priority; the kernel chooses that of a new one.
    pub handle: Handle,
    /// Its rule; `None`: it is of a kind that is not read here.
    pub rule: Option<Rule>,
}

/// A rule of `u32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of them match.
    pub keys: Vec<Key>,
    /// The class of a packet that matches.
    pub class: Handle,
    /// Index of the link that it leaves by instead; 0 in a description is a link that is gone.
    pub redirect: Option<u32>,
}

/// A word of the network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Where it begins, in bytes.
    pub offset: u32,
    /// The bits that are compared.
    pub mask: u32,
    /// Their value.
    pub value: u32,
}

impl Filter {
    /// Index of the link that its packets leave by; 0 is a link that is gone.
    pub fn redirects_to(&self) -> Option<u32> {
        self.rule.as_ref().and_then(|rule| rule.redirect)
    }

    /// Whether it is a rule that every packet matches.
    pub fn matches_all(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| rule.keys.iter().all(|key| key.mask == 0))
    }
}

impl Rule {
    fn write(&self, attrs: &mut Writer) {
        attrs.u32(TCA_U32_CLASSID, self.class.0);
        let Ok(count) = u8::try_from(self.keys.len()) else {
            attrs.fail("a filter has too many keys");
            return;
        };
        let mut selector = vec![0; SELECTOR];
        selector.splice(..3, [TC_U32_TERMINAL, 0, count]);
        for key in &self.keys {
            selector.extend(key.mask.to_be_bytes());
            selector.extend(key.value.to_be_bytes());
            selector.extend(key.offset.to_ne_bytes());
            selector.extend([0; 4]);
        }
        attrs.bytes(TCA_U32_SEL, &selector);
        let Some(link) = self.redirect else { return };
        attrs.nest(TCA_U32_ACT, |attrs| {
            attrs.nest(1, |attrs| {
                attrs.string(TCA_ACT_KIND, "mirred");
                attrs.nest(TCA_ACT_OPTIONS, |attrs| {
                    let parameters = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, link];
                    attrs.bytes(TCA_MIRRED_PARMS, &parameters.map(u32::to_ne_bytes).concat());
                });
            });
        });
    }

    /// `None`: it is a table of rules, not a rule.
    fn read(found: &Description<'_>) -> Result<Option<Self>, Malformed> {
        let mut rule = Self { keys: Vec::new(), class: Handle::NONE, redirect: None };
        let mut is_rule = false;
        for attr in found.nested() {
            let attr = attr?;
            match attr.kind {
                TCA_U32_CLASSID => rule.class = Handle(attr.u32()?),
                TCA_U32_SEL => {
                    is_rule = true;
                    rule.keys = keys(attr.payload)?;
                }
                TCA_U32_ACT => rule.redirect = redirect(&attr)?,
                _ => {}
            }
        }
        Ok(is_rule.then_some(rule))
    }
}

fn keys(selector: &[u8]) -> Result<Vec<Key>, Malformed> {
    let rest = selector.get(SELECTOR..).ok_or(Malformed("a filter's selector is too short"))?;
    let key = |bytes: &[u8]| {
        let big = |at| word(bytes, at).map(u32::from_be);
        Some(Key { mask: big(0)?, value: big(4)?, offset: word(bytes, 8)? })
    };
    Ok(rest.chunks_exact(KEY).filter_map(key).collect())
}

/// The link of the first redirecting action.
fn redirect(actions: &Attr<'_>) -> Result<Option<u32>, Malformed> {
    for action in actions.nested() {
        let (mut kind, mut link) = (String::new(), None);
        for attr in action?.nested() {
            let attr = attr?;
            match attr.kind {
                TCA_ACT_KIND => kind = attr.string(),
                TCA_ACT_OPTIONS => {
                    for attr in attr.nested() {
                        let attr = attr?;
                        let is_redirect =
                            attr.kind == TCA_MIRRED_PARMS && word(attr.payload, 20) == Some(TCA_EGRESS_REDIR);
                        link = if is_redirect { word(attr.payload, 24) } else { link };
                    }
                }
                _ => {}
            }
        }
        if kind == "mirred" && link.is_some() {
            return Ok(link);
        }
    }
    Ok(None)
}

/// `None`: it is the head of a list of filters, or a table of rules.
pub(super) fn read(payload: &[u8]) -> Result<Option<Filter>, Malformed> {
    let found = Description::read(payload)?;
    if found.handle == Handle::NONE {
        return Ok(None);
    }
    let rule = match found.kind.as_str() {
        "u32" => match Rule::read(&found)? {
            Some(rule) => Some(rule),
            None => return Ok(None),
        },
        _ => None,
    };
    let [high, low] = [found.info >> 16, found.info & 0xffff].map(|half| u16::try_from(half).unwrap_or(0));
    Ok(Some(Filter { priority: high, protocol: u16::from_be(low), handle: found.handle, rule }))
}

fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol.to_be())
}

impl Netlink {
    /// The filters of the discipline at `parent`, in their order; none if there is no discipline.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn filters(&self, index: u32, parent: Handle) -> Result<Vec<Filter>> {
        let list = request(RTM_GETTFILTER, 0, index, parent, Handle::NONE, 0);
        let listed = self.socket.dump(list, |payload, filters| {
            filters.extend(read(payload)?);
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::ENOENT) || refusal.is(libc::EINVAL) => Ok(Vec::new()),
            listed => {
                listed.map_err(|refusal| refusal.on("list", format!("filters of {}", self.link_label(index))))
            }
        }
    }

    /// Adds a filter of `u32` to the discipline at `parent`.
    ///
    /// # Errors
    /// The kernel refused; `is_not_found` if it lacks `u32` or `mirred`.
    pub fn create_filter(&self, index: u32, parent: Handle, filter: &Filter) -> Result<()> {
        let info = info(filter.priority, filter.protocol);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let mut add = request(RTM_NEWTFILTER, flags, index, parent, Handle::NONE, info);
        add.attrs.string(TCA_KIND, "u32");
        if let Some(rule) = &filter.rule {
            add.attrs.nest(TCA_OPTIONS, |attrs| rule.write(attrs));
        }
        self.change("create a filter of", add, || self.link_label(index))
    }

    /// Deletes a filter of `u32` from the discipline at `parent`; a missing one counts as deleted.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_filter(&self, index: u32, parent: Handle, filter: &Filter) -> Result<()> {
        let info = info(filter.priority, filter.protocol);
        let mut delete = request(RTM_DELTFILTER, 0, index, parent, filter.handle, info);
        delete.attrs.string(TCA_KIND, "u32");
        match self.change("delete a filter of", delete, || self.link_label(index)) {
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }
}
