//! The names of the sets and maps of a table, and of those that chains look up.

use std::collections::BTreeSet;

use netlink::attr::{Attrs, Malformed};
use sys::Result;

use super::Nft;
use super::expr::Expr;
use super::object::Table;
use super::read::{listed, request};
use super::uapi::{
    GETRULE, GETSET, NFGENMSG, NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_SET_NAME,
    NFTA_SET_TABLE,
};

impl Nft {
    /// Lists the names of the sets and maps of a table; empty if it does not exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_names(&self, table: &Table<'_>) -> Result<Vec<String>> {
        let request = request(GETSET, table, |w| w.string(NFTA_SET_TABLE, table.name));
        listed(self.socket.dump(request, |payload, all| {
            all.extend(read(payload)?);
            Ok(())
        }))
        .map_err(|refusal| refusal.on("list", format!("sets of table {table}")))
    }

    /// The names of the sets and maps that rules of these chains look up, by one request.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn looked_up(&self, table: &Table<'_>, by: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
        let request = request(GETRULE, table, |w| w.string(NFTA_RULE_TABLE, table.name));
        let names = listed(self.socket.dump(request, |payload, all| {
            let (chain, sets) = read_lookups(payload)?;
            if by(&chain) {
                all.extend(sets);
            }
            Ok(())
        }));
        let names = names.map_err(|refusal| refusal.on("list", format!("rules of table {table}")))?;
        Ok(names.into_iter().collect())
    }
}

/// The chain of a rule, and the sets that it looks up.
pub(super) fn read_lookups(payload: &[u8]) -> std::result::Result<(String, Vec<String>), Malformed> {
    let (mut chain, mut sets) = (String::new(), Vec::new());
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        match attr.kind {
            NFTA_RULE_CHAIN => chain = attr.string(),
            NFTA_RULE_EXPRESSIONS => {
                for attr in attr.nested() {
                    if let Expr::Lookup { set, .. } = Expr::read(attr?)? {
                        sets.push(set);
                    }
                }
            }
            _ => {}
        }
    }
    Ok((chain, sets))
}

pub(super) fn read(payload: &[u8]) -> std::result::Result<Option<String>, Malformed> {
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        if attr.kind == NFTA_SET_NAME {
            return Ok(Some(attr.string()));
        }
    }
    Ok(None)
}
