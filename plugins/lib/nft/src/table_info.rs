//! What the kernel tells of a table.

use netlink::attr::{Attrs, Malformed};

use super::object::Family;
use super::uapi::*;
use super::udata;

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its family; `None` for one unknown to this library.
    pub family: Option<Family>,
    /// Its name.
    pub name: String,
    /// Its comment.
    pub comment: Option<String>,
    /// The number of its chains, sets and maps.
    pub uses: u32,
    /// The netlink port of the process that alone may change it (NFTA_TABLE_OWNER); often the id of
    /// the process.
    pub owner: Option<u32>,
    /// Its rules are out of force (NFT_TABLE_F_DORMANT).
    pub dormant: bool,
}

pub(super) fn read_table(payload: &[u8]) -> std::result::Result<TableInfo, Malformed> {
    let family = payload.first().copied().and_then(Family::from_number);
    let mut table =
        TableInfo { family, name: String::new(), comment: None, uses: 0, owner: None, dormant: false };
    for attr in Attrs::after(payload, NFGENMSG)? {
        let attr = attr?;
        match attr.kind {
            NFTA_TABLE_NAME => table.name = attr.string(),
            NFTA_TABLE_USE => table.uses = attr.be32()?,
            NFTA_TABLE_OWNER => table.owner = Some(attr.be32()?),
            NFTA_TABLE_FLAGS => table.dormant = attr.be32()? & NFT_TABLE_F_DORMANT != 0,
            NFTA_TABLE_USERDATA => table.comment = udata::read_text(attr.payload, UDATA_COMMENT),
            _ => {}
        }
    }
    Ok(table)
}
