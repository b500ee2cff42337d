//! Traffic between containers of several hosts: datagrams that are answered, streams of many bytes,
//! and counts of what was lost meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::host::Guest;
use crate::namespace::inside;
use crate::patience::on_this_machine;
use crate::socket::patience;

/// The port of echoes, and of datagrams that are only counted.
pub const ECHO: u16 = 7;
/// The time between two datagrams of [`Guest::ask_all_along`].
pub const PACE: Duration = Duration::from_millis(10);
const BLOCK: usize = 1 << 16;

/// A datagram of [`Guest::ask_all_along`].
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When it was sent, or could not be.
    pub at: Instant,
    /// Whether its answer came.
    pub answered: bool,
}

impl Guest {
    /// Answers datagrams to [`ECHO`] of all addresses, now and later, to the end of the room.
    pub fn echo(&self) -> Result<()> {
        let socket = inside(&self.ns, || UdpSocket::bind(("::", ECHO)).context("bind the echo's port"))?;
        std::thread::spawn(move || {
            let mut bytes = [0; 64];
            loop {
                // An error is of an earlier answer.
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    socket.send_to(bytes.get(..length).unwrap_or_default(), from).ok();
                }
            }
        });
        Ok(())
    }

    /// A socket that sends to a port of an address.
    pub fn towards(&self, to: &str, port: u16) -> Result<UdpSocket> {
        let to: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        inside(&self.ns, || {
            let socket = UdpSocket::bind((any, 0)).context("bind UDP")?;
            socket.set_broadcast(true)?;
            socket.connect((to, port)).with_context(|| format!("{} has no way to {to}", self.ns))?;
            Ok(socket)
        })
    }

    /// A socket at a port of all addresses, which receives what somebody sends in time.
    pub fn listen(&self, port: u16) -> Result<UdpSocket> {
        inside(&self.ns, || {
            let socket = UdpSocket::bind(("0.0.0.0", port)).context("bind UDP")?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// Asks an echo every [`PACE`] until `over`.
    pub fn ask_all_along(&self, to: &str, over: &AtomicBool) -> Result<Vec<Asked>> {
        let socket = self.towards(to, ECHO)?;
        socket.set_nonblocking(true)?;
        let mut asked: Vec<Asked> = vec![];
        let mut bytes = [0; 8];
        let mut hear = |asked: &mut Vec<Asked>| {
            loop {
                match socket.recv(&mut bytes) {
                    Ok(_) => {
                        let number = usize::try_from(u64::from_be_bytes(bytes)).unwrap_or(usize::MAX);
                        asked.get_mut(number).into_iter().for_each(|one| one.answered = true);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // Unreachable, as an earlier datagram was.
                    Err(_) => {}
                }
            }
        };
        while !over.load(Ordering::Relaxed) {
            asked.push(Asked { at: Instant::now(), answered: false });
            // While the container is away this may fail: then nothing answers.
            socket.send(&(asked.len() as u64 - 1).to_be_bytes()).ok();
            std::thread::sleep(PACE);
            hear(&mut asked);
        }
        std::thread::sleep(on_this_machine(Duration::from_millis(100)));
        hear(&mut asked);
        Ok(asked)
    }

    /// Sends that many bytes each way over one connection to another container; returns the time
    /// that it took.
    pub fn stream(&self, other: &Guest, to: &str, bytes: usize) -> Result<Duration> {
        let to: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        let listener = inside(&other.ns, || Ok(TcpListener::bind((to, 0))?)).context("listen")?;
        let at = listener.local_addr()?;
        let began = Instant::now();
        std::thread::scope(|scope| {
            let far = scope.spawn(|| -> Result<()> {
                listener.set_nonblocking(false)?;
                let (stream, _) = listener.accept().context("accept")?;
                both_ways(&stream, bytes)
            });
            let near = match connect(self, at) {
                Ok(stream) => both_ways(&stream, bytes),
                Err(error) => {
                    // The listener must not wait for ever.
                    inside(&other.ns, || Ok(TcpStream::connect(at).map(drop)?)).ok();
                    Err(error)
                }
            };
            near.with_context(|| format!("{} to {to}", self.ns))?;
            far.join().map_err(|_| anyhow!("the listener panicked"))?
        })?;
        Ok(began.elapsed())
    }

    /// Exchanges words over one connection to another container every [`PACE`] until `over`.
    /// Returns the longest time between a word and its answer.
    pub fn talk(&self, other: &Guest, to: &str, over: &AtomicBool) -> Result<Duration> {
        let to: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        let listener = inside(&other.ns, || Ok(TcpListener::bind((to, 0))?)).context("listen")?;
        let mut near = connect(self, listener.local_addr()?)?;
        let (mut far, _) = listener.accept().context("accept")?;
        for stream in [&near, &far] {
            stream.set_read_timeout(Some(patience()))?;
            stream.set_nodelay(true)?;
        }
        let mut longest = Duration::ZERO;
        let mut word = [0; 4];
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            near.write_all(b"moor").context("send a word")?;
            far.read_exact(&mut word).context("hear a word")?;
            far.write_all(&word).context("send it back")?;
            near.read_exact(&mut word).context("hear it back")?;
            longest = longest.max(began.elapsed());
            std::thread::sleep(PACE);
        }
        Ok(longest)
    }
}

fn connect(from: &Guest, at: SocketAddr) -> Result<TcpStream> {
    inside(&from.ns, || {
        TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))
    })
}

/// Sends and receives that many bytes at the same time.
fn both_ways(stream: &TcpStream, bytes: usize) -> Result<()> {
    stream.set_read_timeout(Some(patience()))?;
    stream.set_write_timeout(Some(patience()))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let (mut stream, mut sent) = (stream, 0);
            while sent < bytes {
                let block = block(sent);
                let some = block.len().min(bytes - sent);
                stream.write_all(block.get(..some).unwrap_or_default()).context("send")?;
                sent += some;
            }
            Ok(())
        });
        let (mut stream, mut received, mut have) = (stream, 0, vec![0; BLOCK]);
        while received < bytes {
            let some = BLOCK.min(bytes - received);
            let have = have.get_mut(..some).context("a block has that length")?;
            stream.read_exact(have).with_context(|| format!("receive after {received} bytes"))?;
            ensure!(block(received).starts_with(have), "other bytes arrived after {received}");
            received += some;
        }
        sending.join().map_err(|_| anyhow!("the sender panicked"))?
    })
}

/// The bytes of a stream from a multiple of [`BLOCK`] on.
fn block(at: usize) -> Vec<u8> {
    let mut block = vec![0x6d; BLOCK];
    block.iter_mut().zip((at as u64).to_be_bytes()).for_each(|(to, byte)| *to = byte);
    block
}
