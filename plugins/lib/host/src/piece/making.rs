//! Creating pieces, and undoing all of them.

use sys::Result;

use super::undo::{self, Undo};
use super::{Kernel, Piece};

/// The created part of a plan. Unless it is kept, dropping it undoes everything, the last piece
/// first: a failed ADD leaves nothing.
pub struct Making<'k> {
    kernel: &'k mut Kernel,
    undo: Vec<Undo>,
}

impl<'k> Making<'k> {
    /// Creates the first pieces, in order.
    ///
    /// # Errors
    /// The first error of a piece; everything created is undone.
    pub fn begin(kernel: &'k mut Kernel, pieces: &[Piece]) -> Result<Self> {
        let mut making = Self { kernel, undo: Vec::new() };
        making.add(pieces)?;
        Ok(making)
    }

    /// Creates more pieces, in order.
    ///
    /// # Errors
    /// The first error of a piece; drop this to undo everything.
    pub fn add(&mut self, pieces: &[Piece]) -> Result<()> {
        pieces.iter().try_for_each(|piece| piece.part().apply(self.kernel, &mut self.undo))
    }

    /// The kernel access of the pieces.
    pub fn kernel(&self) -> &Kernel {
        self.kernel
    }

    /// Keeps everything that was created.
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
