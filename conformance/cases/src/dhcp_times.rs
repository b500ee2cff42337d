//! Leases that nobody keeps.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::dhcp::{Offer, Software};
use serde_json::json;

use crate::dhcp::{call, config, kill_daemon};

const SERVER: &[Need] = &[Need::DhcpServers, Need::Macvlan];

pub const CASES: &[Case] =
    &[Case::new("dhcp/an_address_ends_without_a_daemon", &["DH-R6"], alone).needs(SERVER)];

/// Seconds of a lease.
const SHORT: u32 = 3;

/// Waits until something holds, for so many seconds of an idle machine.
fn within(seconds: u32, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + on_this_machine(Duration::from_secs(seconds.into()));
    while !holds()? {
        ensure!(Instant::now() < deadline, "after {seconds} s not yet: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The kernel takes the address off when nobody else does.
fn alone(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut server = room.dhcp_server(Software::Kea, &Offer { lease: SHORT, ..Offer::default() })?;
    let container = room.container("c1")?;
    let config = config(&json!({}));
    call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    within(5, "the kernel knows when the address ends", || {
        let rows = ip::rows(Some("c1"), &["-4", "addr", "show", "dev", "eth0"])?;
        let time = rows.first().and_then(|row| row["addr_info"][0]["valid_life_time"].as_u64());
        Ok(time.is_some_and(|seconds| seconds < 100))
    })?;
    kill_daemon()?;
    server.stop();
    within(SHORT + 5, "the address is off the link", || Ok(ip::addresses(Some("c1"), "eth0")?.is_empty()))?;
    call(room, "DEL", &container, &config)?.silent()
}
