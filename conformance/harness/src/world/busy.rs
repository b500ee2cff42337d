//! A busy host: the kernel's lock of network configuration (RTNL) is contended all the time, and so
//! are the processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::room::Room;
use crate::room::company::Busy;

/// Longer than any room lasts.
const AT_MOST: Duration = Duration::from_secs(300);

/// Runs until it is dropped.
pub struct Load {
    _namespaces: Busy,
    over: Arc<AtomicBool>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

pub fn enter(room: &Room) -> Result<Load> {
    let load = Load { _namespaces: room.busy_rtnl(2), over: Arc::default() };
    let over = load.over.clone();
    std::thread::spawn(move || {
        let deadline = Instant::now() + AT_MOST;
        while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
            std::hint::spin_loop();
        }
    });
    Ok(load)
}
