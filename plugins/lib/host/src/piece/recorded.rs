//! The record of an attachment's packet rules.

use sys::Result;

use super::{Kernel, Part, Piece, Undo};
use crate::intent::{By, Record};
use crate::{Drift, Owner};

/// A record that must exist as long as the rules; see [`crate::intent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The plugin that keeps it.
    pub by: By,
    /// Its content.
    pub record: Record,
}

impl Recorded {
    /// The record of the packet rules among these pieces; `None` when there are none.
    pub fn of<'p>(by: By, owner: &Owner, pieces: impl IntoIterator<Item = &'p Piece>) -> Option<Piece> {
        let mut record = Record::new(owner.clone());
        for piece in pieces {
            match piece {
                Piece::Masquerade(masquerade) => {
                    record.masquerade = Some((masquerade.addresses.clone(), masquerade.inside.clone()));
                }
                Piece::MacFilter(filter) => record.mac_filter = Some((filter.port.clone(), filter.mac)),
                Piece::SourceFilter(filter) => {
                    record.sources = Some((filter.link.clone(), filter.addresses.clone()));
                }
                Piece::AddressFilter(filter) => {
                    record.frames = Some((filter.port.clone(), filter.mac, filter.addresses.clone()));
                }
                Piece::OverlayRules(rules) => record.overlay = Some(rules.rules.clone()),
                _ => {}
            }
        }
        let has_rules = record.masquerade.is_some()
            || record.mac_filter.is_some()
            || record.sources.is_some()
            || record.frames.is_some()
            || record.overlay.is_some();
        has_rules.then_some(Piece::Recorded(Box::new(Self { by, record })))
    }
}

impl Part for Recorded {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        undo.push(Undo::Record(self.by, self.record.owner.clone()));
        kernel
            .records()?
            .write(self.by, &self.record)
            .map_err(|error| error.within("failed to put the packet rules on record".into()))
    }

    // An attachment is complete without it: an older version may have created it without a record.
    fn verify(&self, _: &mut Kernel) -> Result<Vec<Drift>> {
        Ok(Vec::new())
    }
}
