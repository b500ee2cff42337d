//! What cases about names stand on: containers behind a bridge with names, and questions from anywhere.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value, json};

use crate::config::{USUAL, with};
use crate::dns_client::{ID, Question, Reply, client, connect, frame, framed, heard, kind};
use crate::namespace::Container;
use crate::patience;
use crate::room::Room;
use crate::room::call::{Answer, Call};

/// The user and the group of a responder that root started: README names it, for administrators.
pub const RESPONDER: u32 = 61053;
/// Where containers of [`crate::config::bridge`] ask.
pub const GATEWAYS: [&str; 2] = ["10.1.2.1", "2001:db8:1::1"];
/// Where containers without a gateway on the host ask.
pub const INSIDE: &str = "127.0.0.11";

/// Where containers of [`other_bridge`] ask.
pub const OTHER_GATEWAY: &str = "10.9.0.1";

/// Another network, whose bridge is `br1`.
pub fn other_bridge() -> Value {
    json!({
        "cniVersion": USUAL, "name": "other", "type": "bridge", "bridge": "br1", "isGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
    })
}

/// A dns configuration behind what another plugin answered.
pub fn dns(previous: &Value, keys: Value) -> Value {
    let config = json!({"cniVersion": USUAL, "name": "net", "type": "dns", "prevResult": previous});
    with(&config, keys)
}

/// A call of dns for a container that is called so.
pub fn call<'r>(room: &'r Room, verb: &str, container: &Container, name: &str, config: &Value) -> Call<'r> {
    let call = room.attach("dns", verb, container).config(config);
    if name.is_empty() { call } else { call.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAME={name}")) }
}

/// A container with a name.
pub struct Named {
    /// The container.
    pub container: Container,
    /// The link by which it is on the network.
    pub ifname: &'static str,
    /// The name that it was given.
    pub name: String,
    /// The dns configuration that it was attached with.
    pub config: Value,
    /// What dns answered.
    pub result: Value,
}

impl Named {
    /// A container behind `br0`, called so.
    pub fn add(room: &Room, id: &str, name: &str, keys: Value) -> Result<Self> {
        Self::behind(room, id, name, &crate::config::bridge(USUAL), keys)
    }

    /// A container of another bridge's network; dns is for the same network.
    pub fn behind(room: &Room, id: &str, name: &str, bridge: &Value, keys: Value) -> Result<Self> {
        Self::of(room, room.container(id)?, "eth0", name, bridge, keys)
    }

    /// The same for a container that there is, and a link of that name.
    pub fn of(
        room: &Room,
        container: Container,
        ifname: &'static str,
        name: &str,
        bridge: &Value,
        keys: Value,
    ) -> Result<Self> {
        let attach = room.attach("bridge", "ADD", &container).env("CNI_IFNAME", ifname);
        let previous = attach.config(bridge).run()?.result()?;
        let config = dns(&previous, with(&json!({"name": bridge["name"]}), keys));
        let result =
            call(room, "ADD", &container, name, &config).env("CNI_IFNAME", ifname).run()?.result()?;
        Ok(Self { container, ifname, name: name.to_owned(), config, result })
    }

    /// Another verb for it.
    pub fn verb(&self, room: &Room, verb: &str) -> Result<Answer> {
        call(room, verb, &self.container, &self.name, &self.config).env("CNI_IFNAME", self.ifname).run()
    }

    /// DEL of dns, which must succeed.
    pub fn del(&self, room: &Room) -> Result<()> {
        self.verb(room, "DEL")?.silent()
    }

    /// Its address of that family.
    pub fn address(&self, v6: bool) -> String {
        super::portmap::address(&self.config, v6)
    }
}

/// Asks a server (its port 53) from a namespace, or from the host.
pub fn ask(room: &Room, from: Option<&str>, server: &str, question: &Question) -> Result<Reply> {
    asked(room, from, server, question, false)
}

/// The same over TCP.
pub fn ask_tcp(room: &Room, from: Option<&str>, server: &str, question: &Question) -> Result<Reply> {
    asked(room, from, server, question, true)
}

fn asked(room: &Room, from: Option<&str>, server: &str, question: &Question, tcp: bool) -> Result<Reply> {
    let server = SocketAddr::new(server.parse()?, 53);
    let say = || if tcp { question.tcp(server) } else { question.udp(server) };
    match from {
        Some(ns) => room.inside(ns, say),
        None => say(),
    }
}

/// Sends a datagram that must not be answered, and a question behind it whose answer must come first and alone.
pub fn unheard(room: &Room, from: Option<&str>, server: &str, packet: &[u8]) -> Result<()> {
    let server = SocketAddr::new(server.parse()?, 53);
    let say = || -> Result<()> {
        let socket = client(server)?;
        socket.send(packet)?;
        socket.send(&Question::new("web", kind::A).message(ID)?)?;
        Reply::read(heard(&socket)?).map(drop)
    };
    match from {
        Some(ns) => room.inside(ns, say),
        None => say(),
    }
}

/// Sends a datagram; the answer, as it is.
pub fn say(room: &Room, from: &str, server: &str, packet: &[u8]) -> Result<Vec<u8>> {
    let server = SocketAddr::new(server.parse()?, 53);
    room.inside(from, || {
        let socket = client(server)?;
        socket.send(packet)?;
        heard(&socket).with_context(|| format!("{server} about {packet:02x?}"))
    })
}

/// Nobody may be answered there, over UDP and over TCP, while the host is.
pub fn nobody_answers(room: &Room, from: &str, server: &str) -> Result<()> {
    let at = SocketAddr::new(server.parse()?, 53);
    let question = Question::new("web", kind::A);
    let message = question.message(ID)?;
    let (socket, stream) = room.inside(from, || {
        let socket = client(at)?;
        socket.send(&message)?;
        // A connection may be taken and then closed.
        let stream = connect(at).ok().filter(|stream| {
            let mut stream: &std::net::TcpStream = stream;
            framed(&message).is_ok_and(|framed| stream.write_all(&framed).is_ok())
        });
        Ok((socket, stream))
    })?;
    // The host asks the same sockets later, so what could be answered before has been.
    ask(room, None, server, &question)?;
    ask_tcp(room, None, server, &question)?;
    socket.set_nonblocking(true)?;
    ensure!(heard(&socket).is_err(), "{from} asked {server} and was answered");
    if let Some(mut stream) = stream {
        ensure!(frame(&mut stream).is_err(), "{from} asked {server} over TCP and was answered");
    }
    Ok(())
}

/// The IPv4 addresses of a name, in order of their text; none for a name that there is not.
pub fn resolve(room: &Room, from: Option<&str>, server: &str, name: &str) -> Result<Vec<String>> {
    let reply = ask(room, from, server, &Question::new(name, kind::A))?;
    let mut texts: Vec<String> = reply.texts().into_iter().map(str::to_owned).collect();
    texts.sort();
    Ok(texts)
}

/// A name must lead to exactly these addresses.
pub fn expect(room: &Room, from: Option<&str>, server: &str, name: &str, addresses: &[&str]) -> Result<()> {
    let who = from.unwrap_or("the host");
    let told =
        resolve(room, from, server, name).with_context(|| format!("{who} asks {server} for {name}"))?;
    ensure!(told == addresses, "{who} asked {server} for {name} and heard {told:?}, not {addresses:?}");
    Ok(())
}

/// The directories of responders: one for each network namespace that had one.
pub fn places() -> Vec<PathBuf> {
    let entries = fs::read_dir("/run/moor/dns").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The process of the responder at a place, as long as it lives.
pub fn responder(place: &Path) -> Option<u32> {
    let socket = place.join("responder.lock");
    let pid: u32 = fs::read_to_string(socket).ok()?.split_whitespace().next()?.parse().ok()?;
    // `pid (name) state …`: one that has ended is there as a zombie until the room's first process is told of it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (stat.contains("(moor-dns)") && !stat.contains(") Z")).then_some(pid)
}

/// The one responder of the room.
pub fn the_responder() -> Result<u32> {
    let places = places();
    ensure!(places.len() == 1, "there are {} places: {places:?}", places.len());
    responder(&places[0]).context("there is no responder")
}

/// Ends the one responder with SIGKILL, and waits until it is gone.
pub fn kill_responder() -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(the_responder()?.try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    until(Duration::from_secs(2), "a killed responder is gone", || the_responder().is_err())
}

/// Says something at the control socket of the one place, and gives the answer; nothing when it is closed instead.
pub fn control(said: &str) -> Result<String> {
    let place = places().into_iter().next().context("there is no place")?;
    control_at(&place.join("control.sock"), said.as_bytes())
}

/// The same at that socket.
pub fn control_at(path: &Path, said: &[u8]) -> Result<String> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::seconds(5);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
        .with_context(|| format!("connect to {}", path.display()))?;
    match send(socket.as_raw_fd(), said, MsgFlags::MSG_NOSIGNAL) {
        // Closed before anything was said.
        Err(Errno::EPIPE) => return Ok(String::new()),
        done => done?,
    };
    let mut answer = [0; 4096];
    match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
        // Closed with what was said unread, or after it.
        Ok(0) | Err(Errno::ECONNRESET | Errno::EPIPE) => Ok(String::new()),
        Ok(length) => Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned()),
        Err(errno) => Err(errno).context("no answer at the control socket"),
    }
}

/// Waits until something is so, for a bounded time: that of an idle machine.
pub fn until(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience::on_this_machine(patience);
    while !is_so() {
        ensure!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        std::thread::yield_now();
    }
    Ok(())
}

/// Files of records: one for each attachment.
pub fn records() -> Vec<PathBuf> {
    let mut records = vec![];
    for place in places() {
        for network in fs::read_dir(place.join("net")).into_iter().flatten().flatten() {
            let files = fs::read_dir(network.path().join("att")).into_iter().flatten().flatten();
            records.extend(files.map(|entry| entry.path()));
        }
    }
    records.sort();
    records
}

/// Writes the records of as many attachments, three names each, beside that of a container; the responder begins anew.
pub fn with_records(room: &Room, named: &Named, count: usize) -> Result<()> {
    let record = records().into_iter().next().context("no record")?;
    let whole: Value = serde_json::from_slice(&fs::read(&record)?)?;
    for n in 0..count {
        let id = format!("many{n}");
        let names = ["a", "b", "c"].map(|letter| format!("{letter}{n}"));
        let own = with(
            &whole,
            json!({
                "container": id, "names": names,
                "ips": [format!("10.2.{}.{}", n / 200, n % 200 + 1)], "order": n,
            }),
        );
        fs::write(record.with_file_name(format!("{id}@eth0.json")), own.to_string())?;
    }
    kill_responder()?;
    named.verb(room, "CHECK")?.silent()
}
