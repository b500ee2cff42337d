//! The connection.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;
use sys::wait;

use crate::address::{Address, VARIABLE};
use crate::error::{Error, Fault, Result};
use crate::message::{self, HEAD, Message, Object, Value};

/// The longest line of authentication that is read, in bytes.
const LINE_MAX: usize = 1024;

/// The bus itself.
const BUS: Object<'static> = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A connection to the system bus.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    serial: u32,
    limit: Duration,
    deadline: Instant,
}

impl Bus {
    /// Connects to the system bus; `None` if there is none. To connect, and each call, takes `limit`
    /// at most.
    ///
    /// # Errors
    /// The bus does not answer in time, refuses the user, or does not speak the protocol.
    pub fn system(limit: Duration) -> Result<Option<Self>> {
        let variable = std::env::var_os(VARIABLE);
        let address = Address::of(variable.as_deref());
        let unsupported = || Error::Io { op: "find", source: ErrorKind::Unsupported.into() };
        Self::at(&address.ok_or_else(unsupported)?, limit)
    }

    pub(crate) fn at(address: &Address, limit: Duration) -> Result<Option<Self>> {
        let deadline = Instant::now() + limit;
        let stream = match open(address, limit) {
            Ok(stream) => stream,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED) => return Ok(None),
            Err(Errno::EAGAIN) => {
                return Err(Error::Silent { whom: BUS.destination.into(), limit_ms: limit.as_millis() });
            }
            Err(errno) => return Err(Error::Io { op: "connect to", source: errno.into() }),
        };
        let mut bus = Self { stream, serial: 0, limit, deadline };
        bus.authenticate()?;
        bus.call(&BUS, "Hello", &[])?;
        Ok(Some(bus))
    }

    /// Whether a program has the name.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub fn has_owner(&mut self, name: &str) -> Result<bool> {
        Ok(self.call(&BUS, "NameHasOwner", &[name])? == Value::Truth(true))
    }

    /// Calls a method, and waits for its answer. No program is started for it.
    ///
    /// # Errors
    /// [`Error::Failed`] is the program's own; after any other, the connection is of no use.
    pub fn call(&mut self, object: &Object<'_>, member: &str, arguments: &[&str]) -> Result<Value> {
        if arguments.iter().any(|argument| argument.contains('\0')) {
            return Err(Fault::Text.into());
        }
        self.serial += 1;
        self.deadline = Instant::now() + self.limit;
        let call = message::call(self.serial, object, member, arguments);
        self.send(&call, object.destination)?;
        loop {
            match message::read(&self.receive(object.destination)?)? {
                Message::Returned(call, value) if call == self.serial => return Ok(value),
                Message::Failed { call, name, text } if call == self.serial => {
                    return Err(Error::Failed { name, text });
                }
                // A signal, or an answer to nothing.
                _ => {}
            }
        }
    }

    /// "Authentication Protocol": by the user that the kernel reports to the bus.
    fn authenticate(&mut self) -> Result<()> {
        let user = geteuid().to_string();
        let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes(), BUS.destination)?;
        let line = self.line()?;
        if !line.starts_with("OK ") {
            return Err(Error::Refused { line });
        }
        self.send(b"BEGIN\r\n", BUS.destination)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == LINE_MAX {
                return Err(Fault::Line.into());
            }
            // The bus is silent after a line, so nothing of a message is taken.
            let mut byte = [0];
            self.fill(&mut byte, BUS.destination)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn send(&mut self, bytes: &[u8], whom: &str) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.silent(whom));
        }
        let sent = self.stream.set_write_timeout(Some(left)).and_then(|()| self.stream.write_all(bytes));
        sent.map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => self.silent(whom),
            _ => Error::Io { op: "send to", source },
        })
    }

    fn receive(&mut self, whom: &str) -> Result<Vec<u8>> {
        let mut head = [0; HEAD];
        self.fill(&mut head, whom)?;
        let mut bytes = head.to_vec();
        bytes.resize(message::length(&head)?, 0);
        self.fill(bytes.get_mut(HEAD..).unwrap_or_default(), whom)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut rest: &mut [u8], whom: &str) -> Result<()> {
        let fail = |source| Error::Io { op: "receive from", source };
        while !rest.is_empty() {
            if !wait::readable(&self.stream, self.deadline).map_err(fail)? {
                return Err(self.silent(whom));
            }
            match self.stream.read(rest) {
                Ok(0) => return Err(fail(ErrorKind::UnexpectedEof.into())),
                Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => return Err(fail(error)),
            }
        }
        Ok(())
    }

    fn silent(&self, whom: &str) -> Error {
        Error::Silent { whom: whom.to_owned(), limit_ms: self.limit.as_millis() }
    }
}

/// A bus that accepts nobody must not make us wait: a connect waits as long as a send.
fn open(address: &Address, limit: Duration) -> Result<UnixStream, Errno> {
    let address = match address {
        Address::Path(path) => UnixAddr::new(path)?,
        Address::Abstract(name) => UnixAddr::new_abstract(name)?,
    };
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = limit.as_secs().try_into().unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &TimeVal::new(seconds, limit.subsec_micros().into()))?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}
