//! The names of the sets and maps of a table.

use netlink::attr::{Attrs, Malformed};
use sys::Result;

use super::Nft;
use super::object::Table;
use super::read::{listed, request};
use super::uapi::{GETSET, NFGENMSG, NFTA_SET_NAME, NFTA_SET_TABLE};

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
