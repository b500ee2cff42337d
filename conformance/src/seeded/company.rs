//! Defects that show on a host that others use too.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// How long whoever waits for a chance to lock something is given.
const CHANCE: Duration = Duration::from_millis(500);

/// All of them.
pub const COMPANY: &[Defect] = &[
    defect("takes_an_administrators_address", "bridge", "worlds/odd_an_administrators_things_stay", |call| {
        call.after(call.verb == "DEL", |_| {
            drop(Command::new("ip").args(["addr", "flush", "dev", "zadmin"]).status());
        })
    }),
    defect(
        "lock_that_every_user_can_take",
        "bridge",
        "worlds/hostile_an_attachment_comes_and_goes",
        |call| {
            let lock = Path::new("/run/moor/open");
            drop(fs::create_dir_all("/run/moor").and_then(|()| fs::write(lock, "")));
            std::thread::sleep(CHANCE);
            let locked = Command::new("flock").args(["-w", "2", "/run/moor/open", "true"]).status();
            match locked.is_ok_and(|status| status.success()) {
                true => call.sound(),
                false => Reply::error(999, "the lock cannot be had"),
            }
        },
    ),
];
