//! Connections that are held from the outside through published ports, with a byte each way in every
//! round.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::room::Room;
use harness::socket::patience;

/// The time from one round to the next.
const ROUND: Duration = Duration::from_secs(1);

/// A connection, with both of its ends.
pub struct Connection {
    port: u16,
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    /// Connects from the outside to a port of the host; a container serves it at port 80.
    pub fn open(room: &Room, container: &str, host: SocketAddr) -> Result<Self> {
        let listener = room.inside(container, || Ok(TcpListener::bind("0.0.0.0:80")?))?;
        let client = room.inside("outside", || Ok(TcpStream::connect_timeout(&host, patience())?));
        let client = client.with_context(|| format!("connect to {container} by {host}"))?;
        Self::of(host.port(), client, listener.accept()?.0)
    }

    fn of(port: u16, client: TcpStream, server: TcpStream) -> Result<Self> {
        for end in [&client, &server] {
            end.set_nodelay(true)?;
            end.set_write_timeout(Some(patience()))?;
        }
        Ok(Self { port, client, server })
    }

    /// Sends a byte there and another back.
    fn exchange(&self, byte: u8) -> Result<()> {
        for (mut from, mut to, byte) in
            [(&self.client, &self.server, byte), (&self.server, &self.client, !byte)]
        {
            from.write_all(&[byte]).context("send")?;
            to.set_read_timeout(Some(patience()))?;
            let mut read = [0];
            to.read_exact(&mut read).context("receive")?;
            ensure!(read == [byte], "{read:?} came, and {byte} was sent");
        }
        Ok(())
    }
}

/// What was seen of all connections.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How many there were.
    pub opened: usize,
    /// Bytes that arrived.
    pub bytes: u64,
    /// The longest time for a byte each way.
    pub longest: Duration,
    /// Connections that did not pass a byte in time.
    pub broken: Vec<String>,
}

impl Seen {
    /// One line for people; an error if a connection broke.
    pub fn verdict(&self) -> Result<String> {
        let Self { opened, bytes, longest, broken } = self;
        let line = format!(
            "{opened} connections, {bytes} bytes, {} missing, longest wait {} ms",
            broken.len(),
            longest.as_millis()
        );
        match broken.first() {
            None => Ok(line),
            Some(first) => bail!("{line}\n{} broke, the first: {first}", broken.len()),
        }
    }
}

/// The connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<Vec<Connection>>,
    seen: Mutex<Seen>,
    rounds: AtomicUsize,
    ends: AtomicBool,
}

impl Connections {
    /// Holds one more.
    pub fn hold(&self, connection: Connection) {
        lock(&self.open).push(connection);
        lock(&self.seen).opened += 1;
    }

    /// Ends those to ports below this one: their containers are about to go.
    pub fn end_below(&self, port: u16) {
        lock(&self.open).retain(|connection| connection.port >= port);
    }

    /// Exchanges bytes, a round a second, until [`Connections::end`].
    pub fn run(&self) {
        while !self.ends.load(Ordering::Relaxed) {
            let began = Instant::now();
            self.round();
            std::thread::sleep(ROUND.saturating_sub(began.elapsed()));
        }
    }

    fn round(&self) {
        let number = self.rounds.load(Ordering::Relaxed);
        lock(&self.open).retain(|connection| {
            let began = Instant::now();
            let done = connection.exchange(number.to_le_bytes()[0]);
            let goes_on = done.is_ok();
            let mut seen = lock(&self.seen);
            seen.longest = seen.longest.max(began.elapsed());
            match done {
                Ok(()) => seen.bytes += 2,
                Err(error) => {
                    seen.broken.push(format!("port {}, round {number}: {error:#}", connection.port))
                }
            }
            goes_on
        });
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until a round that begins after this call has ended.
    pub fn see_a_round(&self) -> Result<()> {
        let from = self.rounds.load(Ordering::Relaxed);
        let deadline = Instant::now() + patience() * 20;
        while self.rounds.load(Ordering::Relaxed) < from + 2 {
            ensure!(Instant::now() < deadline, "no round of bytes has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends [`Connections::run`] and all connections.
    pub fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
        self.end_below(u16::MAX);
    }

    /// What was seen until now.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(port: u16) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        Connection::of(port, client, listener.accept().unwrap().0).unwrap()
    }

    #[test]
    fn bytes_are_counted_and_a_broken_connection_is_named_once() {
        let held = Connections::default();
        [80, 81, 90].map(pair).into_iter().for_each(|connection| held.hold(connection));
        held.round();
        assert_eq!((held.seen().bytes, held.seen().verdict().is_ok()), (6, true));
        lock(&held.open)[0].server.shutdown(std::net::Shutdown::Both).unwrap();
        lock(&held.open)[1].client.write_all(b"?").unwrap();
        held.round();
        held.round();
        let seen = held.seen();
        assert_eq!((seen.opened, seen.bytes, seen.broken.len()), (3, 10, 2), "{:?}", seen.broken);
        let error = format!("{:#}", seen.verdict().unwrap_err());
        assert!(error.contains("port 80, round 1") && error.contains("2 missing"), "{error}");
    }

    #[test]
    fn a_connection_that_is_ended_is_not_missed() {
        let held = Connections::default();
        [80, 81].map(pair).into_iter().for_each(|connection| held.hold(connection));
        held.end_below(81);
        held.round();
        assert_eq!((held.seen().bytes, held.seen().broken.len()), (2, 0));
        held.end();
        held.run();
        held.round();
        assert_eq!(held.seen().bytes, 2);
    }
}
