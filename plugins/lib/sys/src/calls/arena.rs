//! Memory for a process that ends after a few milliseconds: what is freed need not be found again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A piece of zeroed memory that is handed out from its start. Only the last block is reused, when
/// it is freed, and grows and shrinks in place. The system's allocator has everything that does not
/// fit, and everything after [`Arena::retire`].
///
/// All live blocks lie below `top`: it only rises to the end of a new block, and only falls from
/// the end of a live block to the start of that same block.
#[repr(C, align(64))]
pub(crate) struct Arena<const SIZE: usize> {
    bytes: UnsafeCell<[u8; SIZE]>,
    /// The offset of the first byte that belongs to no block.
    top: AtomicUsize,
    /// The highest value that `top` ever had: from here on, all bytes are still zero.
    touched: AtomicUsize,
    retired: AtomicBool,
}

// SAFETY: `bytes` is only reached through blocks, and no two live blocks overlap.
unsafe impl<const SIZE: usize> Sync for Arena<SIZE> {}

/// A block of an arena, as offsets.
struct Block {
    start: usize,
    end: usize,
    /// The bytes below this offset may not be zero.
    touched: usize,
}

impl<const SIZE: usize> Arena<SIZE> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; SIZE]),
            top: AtomicUsize::new(0),
            touched: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
        }
    }

    /// Hands out nothing more. Blocks that are in use stay valid.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Takes a block from the top; `None` when it does not fit.
    fn take(&self, layout: Layout) -> Option<Block> {
        if self.retired.load(Ordering::Relaxed) {
            return None;
        }
        let base = self.bytes.get().addr();
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let start = base.checked_add(top)?.checked_next_multiple_of(layout.align().max(ALIGN))? - base;
            let end = start.checked_add(layout.size()).filter(|end| *end <= SIZE)?;
            match self.top.compare_exchange_weak(top, end, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(Block { start, end, touched: self.touch(end) }),
                Err(now) => top = now,
            }
        }
    }

    /// Notes that bytes up to `end` may be written, and returns where such bytes ended before.
    fn touch(&self, end: usize) -> usize {
        self.touched.fetch_max(end, Ordering::AcqRel)
    }

    /// The offset of a block of this arena; `None` for memory of the system's allocator.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.bytes.get().addr()).filter(|offset| *offset < SIZE)
    }

    /// Moves the end of the block at `start` from `end` to `new_end`, if it is the last block and
    /// the arena has the room.
    fn resize_last(&self, start: usize, end: usize, new_end: Option<usize>) -> bool {
        let Some(new_end) = new_end.filter(|new_end| (start..=SIZE).contains(new_end)) else { return false };
        let moved = self.top.compare_exchange(end, new_end, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if moved && new_end > end {
            self.touch(new_end);
        }
        moved
    }

    fn at(&self, offset: usize) -> *mut u8 {
        // SAFETY: callers pass the start of a block, which lies within `bytes`.
        unsafe { self.bytes.get().cast::<u8>().add(offset) }
    }
}

// SAFETY: a block is aligned and as long as its layout says, and no other live block overlaps it
// (see `Arena`). Memory that is not of the arena goes to the allocator that it came from.
unsafe impl<const SIZE: usize> GlobalAlloc for Arena<SIZE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(block) => self.at(block.start),
            // SAFETY: the caller's promise about `layout` is passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(block) = self.take(layout) else {
            // SAFETY: the caller's promise about `layout` is passed on.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let start = self.at(block.start);
        let written = block.touched.min(block.end).saturating_sub(block.start);
        // SAFETY: these bytes are the first of the new block.
        unsafe { ptr::write_bytes(start, 0, written) };
        start
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset(block) {
            Some(start) => {
                self.resize_last(start, start + layout.size(), Some(start));
            }
            // SAFETY: not of the arena, so of the system's allocator; the layout is the block's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(start) = self.offset(block) else {
            // SAFETY: not of the arena, so of the system's allocator; the caller's promises about
            // the layout and the size are passed on.
            return unsafe { System.realloc(block, layout, new_size) };
        };
        if self.resize_last(start, start + layout.size(), start.checked_add(new_size))
            || new_size <= layout.size()
        {
            return block;
        }
        // SAFETY: the caller promises that `new_size`, rounded up to the alignment, does not
        // overflow, and the alignment is that of a layout.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: the new size is not 0, as it is larger than another.
        let new = unsafe { self.alloc(new_layout) };
        if !new.is_null() {
            // SAFETY: two live blocks, which do not overlap, and the new one is the larger.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size()) };
            // SAFETY: the block is of this allocator with this layout, and is not used again.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}

/// Every block is aligned as malloc(3) aligns it on 64-bit systems: nix reads control messages in a
/// buffer of bytes where they are.
const ALIGN: usize = 16;

/// Bytes that [`OneShot`] hands out before it asks the system's allocator. The kernel only provides
/// the pages that are written. Less than a huge page, so that it does not provide (and clear) 2 MiB
/// at the first write.
const SIZE: usize = 1 << 20;

static ONE_SHOT: Arena<SIZE> = Arena::new();

/// Allocates from an arena of 1 MiB in which only the last block is reused, then from the system's
/// allocator: for processes that end soon. One that goes on calls
/// [`use_system_allocator`](crate::memory::use_system_allocator) first.
#[derive(Clone, Copy, Debug)]
pub struct OneShot;

// SAFETY: passes everything on to one allocator.
unsafe impl GlobalAlloc for OneShot {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { ONE_SHOT.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { ONE_SHOT.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { ONE_SHOT.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are passed on.
        unsafe { ONE_SHOT.realloc(block, layout, new_size) }
    }
}

pub(crate) fn retire_one_shot_arena() {
    ONE_SHOT.retire();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SMALL: usize = 4096;

    /// What a program does: the numbers choose a live block.
    #[derive(Clone, Debug)]
    enum Act {
        Allocate { size: usize, align: usize, zeroed: bool },
        Resize { block: usize, size: usize },
        Free { block: usize },
        Retire,
    }

    fn act() -> impl Strategy<Value = Act> {
        let size = || prop_oneof![1..64usize, 1..2 * SMALL];
        prop_oneof![
            8 => (size(), 0..8u32, any::<bool>())
                .prop_map(|(size, power, zeroed)| Act::Allocate { size, align: 1 << power, zeroed }),
            6 => (0..64usize, size()).prop_map(|(block, size)| Act::Resize { block, size }),
            6 => (0..64usize).prop_map(|block| Act::Free { block }),
            1 => Just(Act::Retire),
        ]
    }

    /// A live block, all bytes of which have one value.
    struct Live {
        at: *mut u8,
        layout: Layout,
        value: u8,
    }

    impl Live {
        fn fill(at: *mut u8, layout: Layout, value: u8) -> Self {
            // SAFETY: the block is live, and as long as its layout says.
            unsafe { ptr::write_bytes(at, value, layout.size()) };
            Self { at, layout, value }
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: the block is live, initialised, and as long as its layout says.
            unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
        }

        fn holds(&self, length: usize) -> bool {
            self.bytes()[..length].iter().all(|byte| *byte == self.value)
        }
    }

    fn perform(arena: &Arena<SMALL>, live: &mut Vec<Live>, act: &Act, value: u8) {
        match *act {
            Act::Allocate { size, align, zeroed } => {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the size is not 0.
                let at = unsafe { if zeroed { arena.alloc_zeroed(layout) } else { arena.alloc(layout) } };
                assert!(!at.is_null() && at.addr().is_multiple_of(align));
                if zeroed {
                    // SAFETY: the new block, whose bytes are initialised.
                    let bytes = unsafe { std::slice::from_raw_parts(at, size) };
                    assert!(bytes.iter().all(|byte| *byte == 0), "not zero");
                }
                live.push(Live::fill(at, layout, value));
            }
            Act::Resize { block, size } if !live.is_empty() => {
                let number = block % live.len();
                let Live { at, layout, value: old } = live.swap_remove(number);
                // SAFETY: the block is live with this layout, and is not used again.
                let at = unsafe { arena.realloc(at, layout, size) };
                let kept =
                    Live { at, layout: Layout::from_size_align(size, layout.align()).unwrap(), value: old };
                assert!(!at.is_null() && at.addr().is_multiple_of(layout.align()));
                assert!(kept.holds(size.min(layout.size())), "bytes are lost");
                live.push(Live::fill(at, kept.layout, value));
            }
            Act::Free { block } if !live.is_empty() => {
                let number = block % live.len();
                let Live { at, layout, .. } = live.swap_remove(number);
                // SAFETY: the block is live with this layout, and is not used again.
                unsafe { arena.dealloc(at, layout) };
            }
            Act::Retire => arena.retire(),
            Act::Resize { .. } | Act::Free { .. } => {}
        }
    }

    fn free_all(arena: &Arena<SMALL>, live: Vec<Live>) {
        for Live { at, layout, .. } in live {
            // SAFETY: the block is live with this layout, and is not used again.
            unsafe { arena.dealloc(at, layout) };
        }
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_apart_and_keep_their_bytes(acts in prop::collection::vec(act(), 1..200)) {
            let arena = Arena::new();
            let mut live = Vec::new();
            for (act, value) in acts.iter().zip((1..=255).cycle()) {
                perform(&arena, &mut live, act, value);
                prop_assert!(live.iter().all(|block| block.holds(block.layout.size())));
            }
            free_all(&arena, live);
        }
    }

    #[test]
    fn threads_never_share_a_block() {
        let arena = Arena::<SMALL>::new();
        std::thread::scope(|scope| {
            for thread in 1..=4u8 {
                let arena = &arena;
                scope.spawn(move || {
                    let mut live: Vec<Live> = Vec::new();
                    for turn in 0..20_000usize {
                        let size = 1 + (turn * 7 + usize::from(thread)) % 40;
                        let act = match (turn * usize::from(thread)) % 5 {
                            0 | 1 if live.len() < 20 => {
                                Act::Allocate { size, align: 8, zeroed: turn % 2 == 0 }
                            }
                            2 => Act::Resize { block: turn, size },
                            _ => Act::Free { block: live.len().saturating_sub(1) },
                        };
                        perform(arena, &mut live, &act, thread);
                        assert!(live.iter().all(|block| block.holds(block.layout.size())));
                    }
                    free_all(arena, live);
                });
            }
        });
    }

    #[test]
    fn the_last_block_grows_in_place_and_its_memory_is_reused() {
        let arena = Arena::<SMALL>::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        // SAFETY: the size is not 0.
        let first = unsafe { arena.alloc(layout) };
        // SAFETY: the block is live with this layout, and is not used again.
        let grown = unsafe { arena.realloc(first, layout, 1000) };
        assert_eq!(first, grown);
        // SAFETY: the block is live with this layout, and is not used again.
        unsafe { arena.dealloc(grown, Layout::from_size_align(1000, 8).unwrap()) };
        assert_eq!(arena.top.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_does_not_fit_is_the_systems() {
        let arena = Arena::<SMALL>::new();
        let layout = Layout::from_size_align(SMALL + 1, 8).unwrap();
        // SAFETY: the size is not 0.
        let at = unsafe { arena.alloc(layout) };
        assert_eq!(arena.offset(at), None);
        // SAFETY: the block is live with this layout, and is not used again.
        unsafe { arena.dealloc(at, layout) };
        arena.retire();
        let layout = Layout::from_size_align(8, 8).unwrap();
        // SAFETY: the size is not 0.
        let at = unsafe { arena.alloc(layout) };
        assert_eq!(arena.offset(at), None);
        // SAFETY: the block is live with this layout, and is not used again.
        unsafe { arena.dealloc(at, layout) };
    }
}
