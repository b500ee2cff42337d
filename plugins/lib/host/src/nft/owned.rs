//! Deleting what is ours, and only that.

use super::{Batch, Element, Nft, Set};
use crate::Result;

impl Nft {
    /// Deletes those of the elements whose comment `is_ours` accepts; gives what was deleted, as it was. An element
    /// that is not there, that is somebody else's, or that is part of another interval stays.
    ///
    /// It looks, and deletes only if nobody changed anything since ([`Nft::transact`]): so a key that was given to
    /// somebody else in between is not taken from him.
    ///
    /// # Errors
    /// The kernel refused; [`super::is_stale`] when others changed something all the time.
    pub fn delete_elements_owned_by(
        &self,
        set: &Set<'_>,
        elements: &[Element],
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Element>> {
        self.transact(|nft, batch| nft.delete_owned(batch, set, elements, &is_ours))
    }

    /// The same as a part of a transaction: only inside [`Nft::transact`] is it safe.
    ///
    /// # Errors
    /// An element could not be looked up.
    pub fn delete_owned(
        &self,
        batch: &mut Batch,
        set: &Set<'_>,
        elements: &[Element],
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Element>> {
        let mut ours = Vec::new();
        for wanted in elements {
            let found = self.element(set, wanted)?;
            ours.extend(
                found
                    .filter(|found| found.same_key(wanted) && found.comment.as_deref().is_some_and(&is_ours)),
            );
        }
        batch.del_elements(set, &ours);
        Ok(ours)
    }

    /// The same without knowing the keys: looks at every element of the set, which takes long when they are many.
    ///
    /// # Errors
    /// The elements could not be listed.
    pub fn delete_all_owned(
        &self,
        batch: &mut Batch,
        set: &Set<'_>,
        is_ours: impl Fn(&str) -> bool,
    ) -> Result<Vec<Element>> {
        let mut ours = self.elements(set)?;
        ours.retain(|element| element.comment.as_deref().is_some_and(&is_ours));
        batch.del_elements(set, &ours);
        Ok(ours)
    }
}
