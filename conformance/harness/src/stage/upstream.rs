//! DNS servers outside, for cases about names: they record their queries.

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::dns_client::{framed, kind, rcode, read_frame};
use crate::ip;
use crate::room::Room;

/// Addresses of upstream servers, in the namespace of [`outside`].
pub const UPSTREAMS: [&str; 3] = ["198.51.100.2", "198.51.100.3", "198.51.100.4"];

/// The outside, with an address for each of [`UPSTREAMS`].
pub fn outside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for address in &UPSTREAMS[1..] {
        ip::run_in("outside", &["addr", "add", &format!("{address}/24"), "dev", "eth0"])?;
    }
    Ok(())
}

/// A server that records its queries. It ends with the room.
pub struct Upstream {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Serves at port 53 of an address, in a namespace or on the host: one address for every name.
    pub fn start(room: &Room, ns: Option<&str>, address: &str, answer: &str) -> Result<Self> {
        let answer: IpAddr = answer.parse()?;
        Self::with(room, ns, address, move |question, _| vec![answered(question, answer)])
    }

    /// Serves there; `answer` makes the answer from the query and the client.
    pub fn with(
        room: &Room,
        ns: Option<&str>,
        address: &str,
        answer: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let at = SocketAddr::new(address.parse()?, 53);
        let open = || UdpSocket::bind(at).with_context(|| format!("serve at {at}"));
        let socket = match ns {
            Some(ns) => room.inside(ns, open)?,
            None => open()?,
        };
        let asked = Arc::new(Mutex::new(vec![]));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut bytes = vec![0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let question = bytes.get(..length).unwrap_or_default();
                log.lock().unwrap_or_else(PoisonError::into_inner).push(name_of(question));
                for reply in answer(question, from) {
                    drop(socket.send_to(&reply, from));
                }
            }
        });
        Ok(Self { asked })
    }

    /// Serves outside; `answer` makes the answer from the query, its name and how many queries came
    /// before.
    pub fn counting(
        room: &Room,
        address: &str,
        answer: impl Fn(&[u8], &str, u8) -> Vec<u8> + Send + 'static,
    ) -> Result<Self> {
        let count = AtomicU8::new(0);
        Self::with(room, Some("outside"), address, move |question, _| {
            let before = count.fetch_add(1, Ordering::Relaxed);
            vec![answer(question, &name_of(question), before)]
        })
    }

    /// Serves over TCP at port 53 of an address of the outside: one address for every name.
    pub fn over_tcp(room: &Room, address: &str, answer: &str) -> Result<()> {
        let (at, answer): (SocketAddr, IpAddr) = (SocketAddr::new(address.parse()?, 53), answer.parse()?);
        let open = || TcpListener::bind(at).with_context(|| format!("serve at {at} over TCP"));
        let listener = room.inside("outside", open)?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    while let Ok(question) = read_frame(&mut stream) {
                        let reply = framed(&answered(&question, answer)).unwrap_or_default();
                        if stream.write_all(&reply).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Ok(())
    }

    /// The names queried so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The query with one address record appended.
pub fn answered(question: &[u8], address: IpAddr) -> Vec<u8> {
    let mut reply = failed(question, rcode::NOERROR);
    if let Some(count) = reply.get_mut(7) {
        *count = 1;
    }
    let data = match address {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let kind = if address.is_ipv4() { kind::A } else { kind::AAAA };
    reply.extend([0xc0, 12]);
    reply.extend(kind.to_be_bytes());
    reply.extend([0, 1, 0, 0, 0, 60, 0]);
    reply.push(if address.is_ipv4() { 4 } else { 16 });
    reply.extend(data);
    reply
}

/// An answer without records.
pub fn failed(question: &[u8], code: u8) -> Vec<u8> {
    let mut reply = question.get(..end_of_name(question) + 5).unwrap_or_default().to_vec();
    if let Some(header) = reply.get_mut(2..12) {
        header.copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    reply
}

/// The offset of the byte that ends the name of a query.
fn end_of_name(question: &[u8]) -> usize {
    let mut at = 12;
    while let Some(&length) = question.get(at).filter(|length| **length > 0) {
        at += 1 + usize::from(length);
    }
    at
}

fn name_of(question: &[u8]) -> String {
    let mut labels = question.get(13..end_of_name(question)).unwrap_or_default().to_vec();
    let mut next = question.get(12).map_or(0, |length| usize::from(*length));
    // The length bytes of later labels are where the dots are written.
    while let Some(length) = labels.get_mut(next) {
        let step = usize::from(*length);
        *length = b'.';
        next += 1 + step;
    }
    String::from_utf8_lossy(&labels).into_owned()
}
