//! Defects that show on a host that others use too.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// How long whoever waits for a chance to lock something is given.
const CHANCE: Duration = Duration::from_millis(500);

/// Whether the world's host listens to its router.
const LISTENS: &str = "net/ipv6/conf/adminup/accept_ra";

/// Far more than a case takes, in seconds.
const MINUTE: f64 = 60.0;

/// By this process's own clock.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// All of them.
pub const COMPANY: &[Defect] = &[
    defect("takes_an_administrators_address", "bridge", "worlds/odd_an_administrators_things_stay", |call| {
        call.after(call.verb == "DEL", |_| {
            drop(Command::new("ip").args(["addr", "flush", "dev", "zadmin"]).status());
        })
    }),
    defect(
        "host_stops_to_listen_to_its_router",
        "bridge",
        "worlds/odd_the_route_that_was_learned_stays",
        |call| call.after(call.verb == "ADD", |_| drop(fs::write(format!("/proc/sys/{LISTENS}"), "1"))),
    ),
    defect(
        "link_that_listens_to_routers_is_set_up_all_the_same",
        "bridge",
        "routers/a_link_that_would_listen_to_one_is_not_set_up",
        |call| {
            call.after_failure(|reply| {
                if String::from_utf8_lossy(&reply.stdout).contains("accept_ra") {
                    *reply = Reply::nothing();
                }
            })
        },
    ),
    defect(
        "host_loses_what_it_had_learned",
        "bridge",
        "worlds/odd_the_route_that_was_learned_stays",
        |call| {
            call.after(call.verb == "ADD", |_| {
                drop(Command::new("ip").args(["-6", "route", "flush", "proto", "ra"]).status());
            })
        },
    ),
    defect(
        "state_of_a_later_clock_is_refused",
        "bridge",
        "worlds/an_attachment_lives_through_clocks_that_jump",
        |call| {
            // A lock or a state that is believed for as long as its maker's clock is not ahead.
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
        "finds_a_link_by_the_label_that_its_container_gives",
        "bridge",
        "worlds/a_container_under_anothers_label_goes_alone",
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
