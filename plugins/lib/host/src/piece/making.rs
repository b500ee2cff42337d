//! Pieces in the making, and how all of them are taken back.

use sys::Result;

use super::undo::{self, Undo};
use super::{Kernel, Piece};

/// What has been made of a plan so far. Unless it is kept, dropping it takes everything back, the last piece first: a
/// failed ADD leaves nothing.
pub struct Making<'k> {
    kernel: &'k mut Kernel,
    undo: Vec<Undo>,
}

impl<'k> Making<'k> {
    /// Makes the first pieces, in order.
    ///
    /// # Errors
    /// The first that a piece returns; what had been made is gone again.
    pub fn begin(kernel: &'k mut Kernel, pieces: &[Piece]) -> Result<Self> {
        let mut making = Self { kernel, undo: Vec::new() };
        making.add(pieces)?;
        Ok(making)
    }

    /// Makes more pieces, in order.
    ///
    /// # Errors
    /// The first that a piece returns; drop this to take everything back.
    pub fn add(&mut self, pieces: &[Piece]) -> Result<()> {
        pieces.iter().try_for_each(|piece| piece.part().apply(self.kernel, &mut self.undo))
    }

    /// The kernel that the pieces are made in.
    pub fn kernel(&self) -> &Kernel {
        self.kernel
    }

    /// Everything has been made, and stays.
    pub fn keep(mut self) {
        self.undo.clear();
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if !self.undo.is_empty() {
            undo::run(std::mem::take(&mut self.undo), self.kernel);
            self.kernel.forget_links();
        }
    }
}
