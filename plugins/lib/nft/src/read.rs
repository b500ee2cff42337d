//! Reading tables, chains, rules, sets and their elements.

use netlink::attr::{Attrs, Malformed, Writer};
use netlink::message::{Refusal, Request};
use sys::Result;

use super::batch::{data_type, set_flags};
use super::element::Element;
use super::expr::Expr;
use super::object::{Chain, Family, Hook, Kind, Policy, Set, Table};
use super::table_info::{TableInfo, read_table};
use super::uapi::*;
use super::verdict::write_value;
use super::{Nft, udata, value};

/// The most listings of a set when elements appear twice.
const LISTINGS: u32 = 5;

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    /// Its table's family; `None` for one unknown to this library.
    pub family: Option<Family>,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its comment.
    pub comment: Option<String>,
    /// For a base chain: its type, its hook's number (NF_INET_*), its priority and its policy
    /// (NF_ACCEPT, NF_DROP).
    pub base: Option<(String, u32, i32, u32)>,
    /// The number of its rules and of the rules that jump to it.
    pub uses: u32,
}

impl ChainInfo {
    /// Whether it is a base chain that filters at this hook.
    pub fn is_filter(&self, hook: Hook) -> bool {
        let base = self.base.as_ref();
        base.is_some_and(|(kind, at, ..)| kind == Kind::Filter.name() && *at == hook.number())
    }

    /// Whether it is a base chain with a drop policy.
    pub fn drops(&self) -> bool {
        self.base.as_ref().is_some_and(|(.., policy)| *policy == Policy::Drop.number())
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The handle to delete it by.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// Its steps, as [`super::Rule::exprs`] returns them for the same rule.
    pub exprs: Vec<Expr>,
}

/// The name of an object and of its table, with which every request begins.
pub(super) fn request(kind: u16, table: &Table<'_>, fill: impl FnOnce(&mut Writer)) -> Request {
    let mut request = Request::new(SUBSYSTEM | kind, 0, &[table.family.number(), 0, 0, 0]);
    fill(&mut request.attrs);
    request
}

/// Maps ENOENT to `None`.
pub(super) fn found<T>(answer: std::result::Result<T, Refusal>) -> std::result::Result<Option<T>, Refusal> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(refusal) if refusal.is(libc::ENOENT) => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// Maps ENOENT to an empty list.
pub(super) fn listed<T>(
    answer: std::result::Result<Vec<T>, Refusal>,
) -> std::result::Result<Vec<T>, Refusal> {
    found(answer).map(Option::unwrap_or_default)
}

impl Nft {
    /// Lists the tables of all families.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn tables(&self) -> Result<Vec<TableInfo>> {
        let request = Request::new(SUBSYSTEM | GETTABLE, 0, &[0; NFGENMSG]);
        self.socket
            .dump(request, |payload, all| {
                all.push(read_table(payload)?);
                Ok(())
            })
            .map_err(|refusal| refusal.on("list", "tables"))
    }

    /// Returns a table; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn table(&self, table: &Table<'_>) -> Result<Option<TableInfo>> {
        let request = request(GETTABLE, table, |w| w.string(NFTA_TABLE_NAME, table.name));
        found(self.socket.get(request, |payload| Ok(read_table(payload)?)))
            .map_err(|refusal| refusal.on("get", format!("table {table}")))
    }

    /// Lists the chains of a table; empty if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn chains(&self, table: &Table<'_>) -> Result<Vec<ChainInfo>> {
        // The kernel can filter by family only.
        let request = request(GETCHAIN, table, |_| {});
        listed(self.socket.dump(request, |payload, all| {
            all.extend(Some(read_chain(payload)?).filter(|chain| chain.table == table.name));
            Ok(())
        }))
        .map_err(|refusal| refusal.on("list", format!("chains of table {table}")))
    }

    /// Lists the base chains of all tables of a family.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn base_chains(&self, family: Family) -> Result<Vec<ChainInfo>> {
        let request = Request::new(SUBSYSTEM | GETCHAIN, 0, &[family.number(), 0, 0, 0]);
        self.socket
            .dump(request, |payload, all| {
                all.extend(Some(read_chain(payload)?).filter(|chain| chain.base.is_some()));
                Ok(())
            })
            .map_err(|refusal| refusal.on("list", "base chains"))
    }

    /// Returns a chain; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn chain(&self, chain: &Chain<'_>) -> Result<Option<ChainInfo>> {
        let request = request(GETCHAIN, &chain.table, |w| {
            w.string(NFTA_CHAIN_TABLE, chain.table.name);
            w.string(NFTA_CHAIN_NAME, chain.name);
        });
        found(self.socket.get(request, |payload| Ok(read_chain(payload)?)))
            .map_err(|refusal| refusal.on("get", format!("chain {chain}")))
    }

    /// Lists the rules of a chain, in order; empty if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn rules(&self, chain: &Chain<'_>) -> Result<Vec<RuleInfo>> {
        let request = request(GETRULE, &chain.table, |w| {
            w.string(NFTA_RULE_TABLE, chain.table.name);
            w.string(NFTA_RULE_CHAIN, chain.name);
        });
        listed(self.socket.dump(request, |payload, all| {
            all.push(read_rule(payload)?);
            Ok(())
        }))
        .map_err(|refusal| refusal.on("list", format!("rules of chain {chain}")))
    }

    /// Whether a set or map has the declared types; `None` if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_is(&self, set: &Set<'_>) -> Result<Option<bool>> {
        let request = request(GETSET, &set.table, |w| {
            w.string(NFTA_SET_TABLE, set.table.name);
            w.string(NFTA_SET_NAME, set.name);
        });
        found(self.socket.get(request, |payload| Ok(is_of_type(set, payload)?)))
            .map_err(|refusal| refusal.on("get", set.to_string()))
    }

    /// Lists the elements of a set or map, in the order of their keys; empty if it does not exist.
    ///
    /// The kernel resizes a hash in the background after it has grown. A listing that runs
    /// meanwhile repeats some elements and omits others, without a flag (NLM_F_DUMP_INTR only
    /// covers rules). Repeated elements reveal it.
    ///
    /// # Errors
    /// The kernel refused, or the set has other types than declared.
    pub fn elements(&self, set: &Set<'_>) -> Result<Vec<Element>> {
        let mut elements = Vec::new();
        for _ in 0..LISTINGS {
            elements = self.list_elements(set)?;
            elements.sort_unstable_by_key(|element| element.key);
            let listed = elements.len();
            elements.dedup_by_key(|element| (element.key, element.end));
            if elements.len() == listed {
                break;
            }
        }
        Ok(elements)
    }

    fn list_elements(&self, set: &Set<'_>) -> Result<Vec<Element>> {
        let request = request(GETSETELEM, &set.table, |w| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, set.table.name);
            w.string(NFTA_SET_ELEM_LIST_SET, set.name);
        });
        let read = listed(self.socket.dump(request, |payload, all| Ok(read_elements(set, payload, all)?)))
            .map_err(|refusal| refusal.on("list", format!("elements of {set}")))?;
        Ok(if set.interval && set.key.len() == 1 {
            Element::intervals(read)
        } else {
            read.into_iter().map(|(element, _)| element).collect()
        })
    }

    /// Returns the element with the key of `wanted`; `None` if it does not exist. In an interval
    /// set it is the element that contains the (first) key, which may have other ends: compare.
    ///
    /// # Errors
    /// The kernel refused, or the set has other types than declared.
    pub fn element(&self, set: &Set<'_>, wanted: &Element) -> Result<Option<Element>> {
        let object = || format!("element {} of {set}", wanted.show(set));
        let Some(mut element) = self.get_element(set, wanted, 0).map_err(|r| r.on("get", object()))? else {
            return Ok(None);
        };
        if set.interval && set.key.len() == 1 {
            // The end of its interval is a separate element.
            let end = self.get_element(set, wanted, NFT_SET_ELEM_INTERVAL_END);
            let end = end.map_err(|r| r.on("get the end of", object()))?;
            let last = end.map_or(Some(element.key.last_of_its_length()), |end| end.key.previous());
            element.end = last.filter(|last| *last != element.key);
        }
        Ok(Some(element))
    }

    fn get_element(
        &self,
        set: &Set<'_>,
        wanted: &Element,
        flags: u32,
    ) -> std::result::Result<Option<Element>, Refusal> {
        let key = wanted.key.of(set.key)?;
        let concatenated_range = set.interval && set.key.len() > 1;
        let last = wanted.end.as_ref().map_or(Ok(key), |end| end.of(set.key))?;
        let request = request(GETSETELEM, &set.table, |w| {
            w.string(NFTA_SET_ELEM_LIST_TABLE, set.table.name);
            w.string(NFTA_SET_ELEM_LIST_SET, set.name);
            w.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |w| {
                w.nest(NFTA_LIST_ELEM, |w| {
                    write_value(w, NFTA_SET_ELEM_KEY, key);
                    if concatenated_range {
                        write_value(w, NFTA_SET_ELEM_KEY_END, last);
                    }
                    if flags != 0 {
                        w.be32(NFTA_SET_ELEM_FLAGS, flags);
                    }
                });
            });
        });
        let mut read = Vec::new();
        let each = |payload: &[u8]| Ok(read_elements(set, payload, &mut read)?);
        // For an interval without an end, the kernel sends no answer at all.
        found(if flags == 0 {
            self.socket.get(request, each)
        } else {
            self.socket.get_if_any(request, each).map(|_| ())
        })?;
        Ok(read.pop().map(|(element, _)| element))
    }
}

fn read_chain(payload: &[u8]) -> std::result::Result<ChainInfo, Malformed> {
    let family = payload.first().copied().and_then(Family::from_number);
    let mut chain =
        ChainInfo { family, table: String::new(), name: String::new(), comment: None, base: None, uses: 0 };
    let mut hook = None;
    let mut kind = String::new();
    let mut policy = NF_ACCEPT;
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        match attr.kind {
            NFTA_CHAIN_TABLE => chain.table = attr.string(),
            NFTA_CHAIN_NAME => chain.name = attr.string(),
            NFTA_CHAIN_HOOK => hook = Some(attr),
            NFTA_CHAIN_TYPE => kind = attr.string(),
            NFTA_CHAIN_POLICY => policy = attr.be32()?,
            NFTA_CHAIN_USE => chain.uses = attr.be32()?,
            NFTA_CHAIN_USERDATA => chain.comment = udata::read_text(attr.payload, UDATA_COMMENT),
            _ => {}
        }
    }
    if let Some(hook) = hook {
        let mut number = 0;
        let mut priority = 0;
        for attr in hook.nested() {
            let attr = attr?;
            match attr.kind {
                NFTA_HOOK_HOOKNUM => number = attr.be32()?,
                NFTA_HOOK_PRIORITY => priority = attr.be32()?.cast_signed(),
                _ => {}
            }
        }
        chain.base = Some((kind, number, priority, policy));
    }
    Ok(chain)
}

fn read_rule(payload: &[u8]) -> std::result::Result<RuleInfo, Malformed> {
    let mut rule = RuleInfo { handle: 0, comment: None, exprs: Vec::new() };
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        match attr.kind {
            NFTA_RULE_HANDLE => rule.handle = attr.be64()?,
            NFTA_RULE_USERDATA => rule.comment = udata::read_text(attr.payload, UDATA_COMMENT),
            NFTA_RULE_EXPRESSIONS => {
                for attr in attr.nested() {
                    rule.exprs.push(Expr::read(attr?)?);
                }
            }
            _ => {}
        }
    }
    Ok(rule)
}

fn is_of_type(set: &Set<'_>, payload: &[u8]) -> std::result::Result<bool, Malformed> {
    let (mut flags, mut key, mut data, mut data_length) = (0, (0, 0), None, 0);
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        match attr.kind {
            NFTA_SET_FLAGS => flags = attr.be32()?,
            NFTA_SET_KEY_TYPE => key.0 = attr.be32()?,
            NFTA_SET_KEY_LEN => key.1 = attr.be32()?,
            NFTA_SET_DATA_TYPE => data = Some(attr.be32()?),
            NFTA_SET_DATA_LEN => data_length = attr.be32()?,
            _ => {}
        }
    }
    let (data_id, declared_length) = data_type(set.data).unzip();
    Ok(flags & (NFT_SET_INTERVAL | NFT_SET_MAP) == set_flags(set) & (NFT_SET_INTERVAL | NFT_SET_MAP)
        && key.0 == value::type_id(set.key)
        && usize::try_from(key.1).is_ok_and(|length| length == value::length(set.key))
        && data == data_id
        // For a verdict the kernel reports the length of its internal structure.
        && (data == Some(NFT_DATA_VERDICT)
            || usize::try_from(data_length).is_ok_and(|length| length == declared_length.unwrap_or(0))))
}

fn read_elements(
    set: &Set<'_>,
    payload: &[u8],
    all: &mut Vec<(Element, bool)>,
) -> std::result::Result<(), Malformed> {
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        if attr.kind == NFTA_SET_ELEM_LIST_ELEMENTS {
            for attr in attr.nested() {
                all.push(Element::read(set, attr?)?);
            }
        }
    }
    Ok(())
}

/// Runs every message reader, for tests and the fuzzer.
pub(crate) fn read_any(sets: &[Set<'_>], payload: &[u8]) {
    let _ = (read_table(payload), read_chain(payload), read_rule(payload));
    for set in sets {
        let mut all = Vec::new();
        let _ = (is_of_type(set, payload), read_elements(set, payload, &mut all));
        Element::intervals(all);
    }
}
