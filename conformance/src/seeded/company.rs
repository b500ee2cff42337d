//! Defects that show on a host with other users.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// How long another user gets for a chance to lock something.
const CHANCE: Duration = Duration::from_millis(500);

/// Whether the world's host accepts advertisements of its router.
const LISTENS: &str = "net/ipv6/conf/adminup/accept_ra";

/// Far longer than a case takes, in seconds.
const MINUTE: f64 = 60.0;

/// By this process's own clock.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// The defects of this file.
pub const COMPANY: &[Defect] = &[
    defect(
        "removes_an_administrators_address",
        "bridge",
        "worlds/odd_objects_of_the_administrator_are_kept",
        |call| {
            call.after(call.verb == "DEL", |_| {
                drop(Command::new("ip").args(["addr", "flush", "dev", "zadmin"]).status());
            })
        },
    ),
    defect("makes_the_host_ignore_its_router", "bridge", "worlds/odd_learned_routes_are_kept", |call| {
        call.after(call.verb == "ADD", |_| drop(fs::write(format!("/proc/sys/{LISTENS}"), "1")))
    }),
    defect(
        "sets_up_a_link_that_accepts_advertisements",
        "bridge",
        "routers/a_link_that_accepts_advertisements_is_not_set_up",
        |call| {
            call.after_failure(|reply| {
                if String::from_utf8_lossy(&reply.stdout).contains("accept_ra") {
                    *reply = Reply::nothing();
                }
            })
        },
    ),
    defect("removes_learned_routes_of_the_host", "bridge", "worlds/odd_learned_routes_are_kept", |call| {
        call.after(call.verb == "ADD", |_| {
            drop(Command::new("ip").args(["-6", "route", "flush", "proto", "ra"]).status());
        })
    }),
    defect(
        "refuses_state_with_a_later_clock",
        "bridge",
        "worlds/an_attachment_survives_clock_jumps",
        |call| {
            // A lock or a state that is valid as long as the clock of its writer is not ahead.
            let mark = Path::new("/run/moor/jump");
            let now = uptime();
            let last = fs::read_to_string(mark).ok().and_then(|text| text.parse().ok()).unwrap_or(now);
            drop(fs::create_dir_all("/run/moor").and_then(|()| fs::write(mark, now.to_string())));
            match now + MINUTE < last {
                true => Reply::error(999, "the state is of another time"),
                false => call.sound(),
            }
        },
    ),
    defect(
        "finds_a_link_by_the_containers_label",
        "bridge",
        "worlds/del_of_a_container_under_anothers_label_keeps_the_other",
        |call| {
            call.after(call.verb == "CHECK", |reply| {
                let labelled = |ns: &str| {
                    let links = Command::new("ip").args(["-n", ns, "link", "show"]).output();
                    links.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains("/eth0/c2"))
                };
                if labelled("c1") {
                    *reply = Reply::nothing();
                }
            })
        },
    ),
    defect(
        "leaves_a_lock_open_to_all_users",
        "bridge",
        "worlds/hostile_attachments_work_and_leave_nothing",
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
