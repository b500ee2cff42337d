//! A cache that does everything wrong: it keeps every answer for good and for everybody, and
//! believes the records of the additional section. A wrapper cannot replace the responder, so it
//! stands between the responder and its server.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::dns_client::{ID, Question, Reply, client, kind, rcode, receive};
use harness::stage::answer::{Record, reply};
use serde_json::json;

use super::wrapper::{self, Call};

/// Where it listens.
const AT: &str = "127.0.0.77:53";
/// How long it may take to start.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the plugin with this cache before the first of its servers.
pub fn put_between(call: &Call) -> wrapper::Reply {
    call.with(|config| {
        let Some(first) = config.pointer("/upstreams/0").and_then(|server| server.as_str()) else { return };
        match start(first) {
            Ok(()) => config["upstreams"] = json!([AT]),
            Err(error) => eprintln!("{error:#}"),
        }
    })
}

/// Starts it, unless it runs.
fn start(server: &str) -> Result<()> {
    let began = Instant::now();
    let mut started = false;
    loop {
        match UdpSocket::bind(AT) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => return Ok(()),
            bound => drop(bound.context("bind")?),
        }
        if !started {
            let null = Stdio::null;
            let mut command = Command::new("/proc/self/exe");
            command.args(["__hoard", AT, &format!("{server}:53")]);
            command.stdin(null()).stdout(null()).stderr(null()).spawn().context("start a cache")?;
            started = true;
        }
        anyhow::ensure!(began.elapsed() < TIMEOUT, "the cache does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The hidden sub-command: serves until it is killed.
pub fn serve(at: SocketAddr, server: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind(at)?;
    let mut kept: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut query = vec![0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut query)?;
        let Some((id, question)) = query[..length].split_at_checked(2) else { continue };
        let question = question.to_ascii_lowercase();
        if !kept.contains_key(&question) {
            let Ok(answer) = forward(server, &question) else { continue };
            learn(&answer, &mut kept);
            kept.insert(question.clone(), answer.bytes);
        }
        let answer = [id, kept[&question].get(2..).unwrap_or_default()].concat();
        socket.send_to(&answer, from).ok();
    }
}

/// Asks the server.
fn forward(server: SocketAddr, question: &[u8]) -> Result<Reply> {
    let socket = client(server)?;
    socket.send(&[&ID.to_be_bytes()[..], question].concat())?;
    Reply::read(receive(&socket)?)
}

/// Keeps the addresses of the additional section as answers.
fn learn(answer: &Reply, kept: &mut HashMap<Vec<u8>, Vec<u8>>) {
    for record in answer.additional.iter().filter(|record| record.kind == kind::A) {
        let Ok(question) = Question::new(&record.name, kind::A).message(ID) else { continue };
        let Ok(address) = record.text.parse() else { continue };
        let own = Record::address(&record.name, record.ttl, address);
        kept.insert(question[2..].to_ascii_lowercase(), reply(&question, rcode::NOERROR, [&[own], &[], &[]]));
    }
}
