//! Packet rules while another process commits to nf_tables continuously.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::with;
use harness::room::Room;
use harness::stage::portmap::portmap;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, send, socket};
use serde_json::{Value, json};

use crate::masquerade::masquerade;
use crate::portmap_life::one;

pub const CASES: &[Case] = &[Case::new(
    "rules/verbs_succeed_while_another_process_commits_constantly",
    &["BR-R9", "PM-R9"],
    beside_commits,
)
.alone()];

/// Processes that create and delete a table continuously.
pub struct Noise {
    go_on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Result<u32>>>,
}

impl Noise {
    /// Several, without pauses.
    pub fn begin(count: usize) -> Self {
        Self::paced(count, Duration::ZERO)
    }

    /// One, with pauses between its changes.
    pub fn every(pause: Duration) -> Self {
        Self::paced(1, pause)
    }

    fn paced(count: usize, pause: Duration) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let commit = move |asked: &AtomicBool| -> Result<u32> {
            let socket = socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )?;
            let batch = batch();
            let mut commits = 0;
            while asked.load(Ordering::Relaxed) {
                send(socket.as_raw_fd(), &batch, MsgFlags::empty())?;
                commits += 1;
                std::thread::sleep(pause);
            }
            Ok(commits)
        };
        let threads = (0..count).map(|_| {
            let asked = go_on.clone();
            std::thread::spawn(move || commit(&asked))
        });
        Self { threads: threads.collect(), go_on }
    }

    /// Stops it; returns the number of its commits.
    pub fn end(mut self) -> Result<u32> {
        self.go_on.store(false, Ordering::Relaxed);
        let mut commits = 0;
        for thread in self.threads.drain(..) {
            commits += thread.join().map_err(|_| anyhow!("a thread that commits panicked"))??;
        }
        Ok(commits)
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.go_on.store(false, Ordering::Relaxed);
    }
}

/// A transaction that creates table `ip noise` and deletes it (linux/netfilter/nfnetlink.h,
/// nf_tables.h).
fn batch() -> Vec<u8> {
    const BEGIN: u16 = 16;
    const END: u16 = 17;
    const NEWTABLE: u16 = 10 << 8;
    const DELTABLE: u16 = NEWTABLE | 2;
    const REQUEST: u16 = 1;
    const CREATE: u16 = 0x400;
    const IPV4: u8 = 2;
    // The header of nfnetlink; in the messages that begin and end a batch it names the subsystem,
    // big-endian.
    let whole: &[u8] = &[0, 0, 0, 10];
    // NFTA_TABLE_NAME
    let name: &[u8] = b"\x0a\x00\x01\x00noise\x00\x00\x00";
    let table = [&[IPV4, 0, 0, 0], name].concat();
    let messages: [(u16, u16, &[u8]); 4] = [
        (BEGIN, REQUEST, whole),
        (NEWTABLE, REQUEST | CREATE, &table),
        (DELTABLE, REQUEST, &table),
        (END, REQUEST, whole),
    ];
    let mut bytes = Vec::new();
    for (kind, flags, payload) in messages {
        let length = u32::try_from(16 + payload.len()).unwrap_or_default();
        bytes.extend(length.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
    }
    bytes
}

fn beside_commits(room: &Room) -> Result<()> {
    let network = with(&masquerade(), json!({"macspoofchk": true}));
    let noise = Noise::begin(6);
    for round in 0..12 {
        let container = room.container(&format!("c{round}"))?;
        let call = |plugin: &str, verb: &str, config: &Value| {
            room.attach(plugin, verb, &container).config(config).run()
        };
        let context = || format!("round {round}");
        let previous = call("bridge", "ADD", &network)?.result().with_context(context)?;
        let ports = portmap(one(8080), &previous);
        call("portmap", "ADD", &ports)?.result().with_context(context)?;
        call("portmap", "DEL", &ports)?.silent().with_context(context)?;
        call("bridge", "DEL", &with(&network, json!({"prevResult": previous})))?
            .silent()
            .with_context(context)?;
    }
    let commits = noise.end()?;
    ensure!(commits > 1000, "the other process committed only {commits} times");
    Ok(())
}
