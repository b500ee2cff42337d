//! A DNS client, byte by byte (RFC 1035, RFC 6891): cases must not parse answers with the code
//! that they judge. Each function runs in the calling thread's namespace (see `Room::inside`).

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// Record types.
pub mod kind {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Start of authority.
    pub const SOA: u16 = 6;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
    /// EDNS (RFC 6891).
    pub const OPT: u16 = 41;
}

/// Response codes.
pub mod rcode {
    /// No error.
    pub const NOERROR: u8 = 0;
    /// The query is malformed.
    pub const FORMERR: u8 = 1;
    /// The server failed.
    pub const SERVFAIL: u8 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u8 = 3;
    /// Not implemented.
    pub const NOTIMP: u8 = 4;
    /// The server refuses the query.
    pub const REFUSED: u8 = 5;
}

/// How long an answer may take.
pub fn patience() -> Duration {
    crate::patience::on_this_machine(Duration::from_secs(3))
}

/// A query.
#[derive(Clone, Debug)]
pub struct Question {
    /// The name as text; a final dot is ignored.
    pub name: String,
    /// The record type.
    pub kind: u16,
    /// The size announced by EDNS; no OPT record if absent.
    pub edns: Option<u16>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The message.
    pub bytes: Vec<u8>,
    /// The flags of its header.
    pub flags: u16,
    /// The repeated name, spelled as in the message.
    pub question: String,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
    /// The additional section.
    pub additional: Vec<Record>,
}

/// A resource record.
#[derive(Clone, Debug)]
pub struct Record {
    /// The owner name.
    pub name: String,
    /// The type.
    pub kind: u16,
    /// The TTL in seconds.
    pub ttl: u32,
    /// An address or a name; the minimum of a SOA record.
    pub text: String,
}

impl Question {
    /// A query without EDNS.
    pub fn new(name: &str, kind: u16) -> Self {
        Self { name: name.to_owned(), kind, edns: None }
    }

    /// A query for the name of an address.
    pub fn reverse(address: &str) -> Result<Self> {
        let name = match address.parse()? {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(ip) => {
                let nibbles = ip.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
                let digits: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
                format!("{}.ip6.arpa", digits.join("."))
            }
        };
        Ok(Self::new(&name, kind::PTR))
    }

    /// Encodes the query.
    pub fn message(&self, id: u16) -> Result<Vec<u8>> {
        let mut bytes = id.to_be_bytes().to_vec();
        // Recursion is desired, as by stub resolvers.
        bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        for label in self.name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
            bytes.push(u8::try_from(label.len()).context("a label is too long")?);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend([0, 1]);
        if let Some(size) = self.edns {
            bytes.push(0);
            bytes.extend(kind::OPT.to_be_bytes());
            bytes.extend(size.to_be_bytes());
            bytes.extend([0; 6]);
        }
        Ok(bytes)
    }

    /// Sends the query over UDP.
    pub fn udp(&self, server: SocketAddr) -> Result<Reply> {
        self.udp_within(server, patience())
    }

    /// Sends the query over UDP, with a timeout.
    pub fn udp_within(&self, server: SocketAddr, patience: Duration) -> Result<Reply> {
        let socket = client(server)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(&self.message(ID)?)?;
        let about = || format!("{server} about {}", self.name);
        Reply::read(receive(&socket).with_context(about)?).with_context(about)
    }

    /// Sends the query over TCP.
    pub fn tcp(&self, server: SocketAddr) -> Result<Reply> {
        let mut stream = connect(server)?;
        stream.write_all(&framed(&self.message(ID)?)?)?;
        let about = || format!("{server} about {} over TCP", self.name);
        Reply::read(read_frame(&mut stream).with_context(about)?).with_context(about)
    }
}

/// A socket connected to a server, with a read timeout.
pub fn client(server: SocketAddr) -> Result<UdpSocket> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience()))?;
    socket.connect(server).with_context(|| format!("connect to {server}"))?;
    Ok(socket)
}

/// The next datagram.
pub fn receive(socket: &UdpSocket) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 65536];
    let length = socket.recv(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// A connection to a server.
pub fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect_timeout(&server, patience()).with_context(|| format!("connect to {server}"))?;
    stream.set_read_timeout(Some(patience()))?;
    Ok(stream)
}

/// A message with the length prefix of TCP.
pub fn framed(message: &[u8]) -> Result<Vec<u8>> {
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend(message);
    Ok(framed)
}

/// The next message of a connection.
pub fn read_frame(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The id of queries that are sent one at a time.
pub const ID: u16 = 0x4d6f;

impl Reply {
    /// Parses the answer to a query with [`ID`].
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        let mut at = Cursor { bytes: &bytes, at: 0 };
        let (id, flags) = (at.word()?, at.word()?);
        ensure!(id == ID && flags & 0x8000 != 0, "not an answer to the query: id {id:#x}, flags {flags:#x}");
        let counts = [at.word()?, at.word()?, at.word()?, at.word()?];
        ensure!(counts[0] == 1, "the answer repeats {} questions", counts[0]);
        let question = at.name()?;
        at.take(4)?;
        let mut sections = [vec![], vec![], vec![]];
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                section.push(at.record()?);
            }
        }
        ensure!(at.at == bytes.len(), "{} bytes after the answer", bytes.len() - at.at);
        let [answers, authority, additional] = sections;
        Ok(Self { bytes, flags, question, answers, authority, additional })
    }

    /// The response code.
    pub fn rcode(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// Whether the answer is authoritative.
    pub fn is_authoritative(&self) -> bool {
        self.flags & 0x400 != 0
    }

    /// Whether the answer is truncated.
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x200 != 0
    }

    /// Whether the server offers recursion.
    pub fn offers_recursion(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// The texts of the answer section, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.answers.iter().map(|record| record.text.as_str()).collect()
    }
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let taken = self.bytes.get(self.at..self.at + length).context("the answer ends too early")?;
        self.at += length;
        Ok(taken)
    }

    fn word(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn name(&mut self) -> Result<String> {
        let mut labels = vec![];
        let mut back = None;
        // More labels and pointers than a name can have.
        for _ in 0..256 {
            let length = self.take(1)?[0];
            match length {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Ok(labels.join("."));
                }
                _ if length & 0xc0 == 0xc0 => {
                    let low = self.take(1)?[0];
                    back = back.or(Some(self.at));
                    self.at = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                }
                _ => labels.push(String::from_utf8_lossy(self.take(length.into())?).into_owned()),
            }
        }
        bail!("a name has no end")
    }

    fn record(&mut self) -> Result<Record> {
        let name = self.name()?;
        let (kind, _class) = (self.word()?, self.word()?);
        let ttl = u32::from(self.word()?) << 16 | u32::from(self.word()?);
        let length = usize::from(self.word()?);
        let end = self.at + length;
        let text = match kind {
            kind::A => IpAddr::from(<[u8; 4]>::try_from(self.take(length)?)?).to_string(),
            kind::AAAA => IpAddr::from(<[u8; 16]>::try_from(self.take(length)?)?).to_string(),
            kind::PTR => self.name()?,
            kind::SOA => {
                let (_server, _mailbox) = (self.name()?, self.name()?);
                // Serial, refresh, retry, expire, minimum.
                let last = self.take(20)?.last_chunk::<4>().copied().unwrap_or_default();
                u32::from_be_bytes(last).to_string()
            }
            _ => {
                self.take(length)?;
                String::new()
            }
        };
        ensure!(self.at == end, "a record of type {kind} does not have its declared length");
        Ok(Record { name, kind, ttl, text })
    }
}
