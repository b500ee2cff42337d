//! The allocator of one-shot executables.
//!
//! An executable that handles one request and ends names it in its `main.rs`:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: sys::memory::OneShot = sys::memory::OneShot;
//! ```

pub use crate::calls::OneShot;
use crate::calls::retire_one_shot_arena;

/// Makes [`OneShot`] allocate with the system's allocator from now on: memory that is freed then is
/// reused. Blocks in the arena stay valid.
pub fn use_system_allocator() {
    retire_one_shot_arena();
}
