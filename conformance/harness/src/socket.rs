//! Reachability by real packets. Each function runs in the calling thread's namespace (see
//! [`inside`]).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::namespace::inside;

/// The time limit of one attempt.
pub fn patience() -> Duration {
    crate::patience::on_this_machine(Duration::from_secs(3))
}

/// A closed port: a refusal from it still proves that the address answers.
const CLOSED_PORT: u16 = 9;

/// Reaches an address: a TCP handshake or a reset must come back. Returns the time it took.
pub fn reach(address: IpAddr, patience: Duration) -> Result<Duration> {
    let began = Instant::now();
    match TcpStream::connect_timeout(&SocketAddr::new(address, CLOSED_PORT), patience) {
        Ok(_) => Ok(began.elapsed()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(began.elapsed()),
        Err(error) => Err(error).with_context(|| format!("reach {address}")),
    }
}

/// As [`reach`], repeated until there is an answer or the deadline has passed.
pub fn reach_by(address: IpAddr, deadline: Instant) -> Result<Duration> {
    loop {
        match reach(address, patience()) {
            Err(_) if Instant::now() < deadline => {}
            done => return done,
        }
    }
}

/// A TCP listener that echoes one client.
pub fn tcp_echo(address: IpAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind((address, 0)).with_context(|| format!("bind TCP to {address}"))?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

/// Serves one client of a [`tcp_echo`] listener. It waits twice as long for the client as the client
/// tries to connect.
pub fn serve_one(listener: &TcpListener) -> Result<IpAddr> {
    let timeout = PollTimeout::try_from(patience() * 2).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], timeout)?;
    ensure!(ready == 1, "no client connected");
    let (mut stream, from) = listener.accept().context("accept")?;
    stream.set_read_timeout(Some(patience()))?;
    let mut word = [0; 4];
    stream.read_exact(&mut word).context("read from the client")?;
    stream.write_all(&word).context("answer the client")?;
    Ok(from.ip())
}

/// Sends a word to a [`tcp_echo`] listener and reads it back.
pub fn tcp_exchange(to: SocketAddr) -> Result<()> {
    let mut stream =
        TcpStream::connect_timeout(&to, patience()).with_context(|| format!("connect to {to}"))?;
    stream.set_read_timeout(Some(patience()))?;
    stream.write_all(b"moor")?;
    let mut word = [0; 4];
    stream.read_exact(&mut word).with_context(|| format!("hear {to} answer"))?;
    ensure!(&word == b"moor", "{to} answered something else");
    Ok(())
}

/// A web server's whole answer to a request for its page.
pub fn page(at: SocketAddr) -> Result<String> {
    let mut stream =
        TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))?;
    stream.set_read_timeout(Some(patience()))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").with_context(|| format!("ask {at}"))?;
    let mut answer = String::new();
    stream.take(64 * 1024).read_to_string(&mut answer).with_context(|| format!("hear {at} answer"))?;
    Ok(answer)
}

/// The source address that a listener at `address` in the namespace `listener` sees for a client in
/// the namespace `from`.
pub fn seen_as(from: &str, listener: &str, address: &str) -> Result<String> {
    let address: IpAddr = address.parse()?;
    let (socket, at) = inside(listener, || tcp_echo(address))?;
    std::thread::scope(|scope| {
        let served = scope.spawn(|| serve_one(&socket));
        inside(from, || tcp_exchange(at)).with_context(|| format!("{from} to {address}"))?;
        let peer = served.join().map_err(|_| anyhow!("the listener panicked"))??;
        Ok(peer.to_string())
    })
}

/// Binds UDP to an address, which fails for a tentative IPv6 address.
pub fn bind(address: IpAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).with_context(|| format!("bind UDP to {address}"))?;
    socket.set_read_timeout(Some(patience()))?;
    Ok(socket)
}
