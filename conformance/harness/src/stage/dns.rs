//! Helpers for cases about names: named containers behind a bridge, and DNS queries from any
//! namespace.

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
use crate::dns_client::{ID, Question, Reply, client, connect, framed, kind, read_frame, receive};
use crate::namespace::Container;
use crate::patience;
use crate::room::Room;
use crate::room::call::{Answer, Call};

/// User and group of a responder that root started, as documented for administrators.
pub const RESPONDER: u32 = 61053;
/// Name servers of containers on [`crate::config::bridge`].
pub const GATEWAYS: [&str; 2] = ["10.1.2.1", "2001:db8:1::1"];
/// Name server of containers without a gateway on the host.
pub const INSIDE: &str = "127.0.0.11";

/// Name server of containers on [`other_bridge`].
pub const OTHER_GATEWAY: &str = "10.9.0.1";

/// Another network, with the bridge `br1`.
pub fn other_bridge() -> Value {
    json!({
        "cniVersion": USUAL, "name": "other", "type": "bridge", "bridge": "br1", "isGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]},
    })
}

/// A dns configuration with the result of another plugin.
pub fn dns(previous: &Value, keys: Value) -> Value {
    let config = json!({"cniVersion": USUAL, "name": "net", "type": "dns", "prevResult": previous});
    with(&config, keys)
}

/// A call of dns for a container with a name.
pub fn call<'r>(room: &'r Room, verb: &str, container: &Container, name: &str, config: &Value) -> Call<'r> {
    let call = room.attach("dns", verb, container).config(config);
    if name.is_empty() { call } else { call.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAME={name}")) }
}

/// A container with a name.
pub struct Named {
    /// The container.
    pub container: Container,
    /// The interface that is attached to the network.
    pub ifname: &'static str,
    /// The name.
    pub name: String,
    /// The dns configuration of its ADD.
    pub config: Value,
    /// The result of its ADD.
    pub result: Value,
}

impl Named {
    /// Adds a container with a name behind `br0`.
    pub fn add(room: &Room, id: &str, name: &str, keys: Value) -> Result<Self> {
        Self::behind(room, id, name, &crate::config::bridge(USUAL), keys)
    }

    /// Adds a container behind another bridge, with dns for the same network.
    pub fn behind(room: &Room, id: &str, name: &str, bridge: &Value, keys: Value) -> Result<Self> {
        Self::of(room, room.container(id)?, "eth0", name, bridge, keys)
    }

    /// The same for an existing container and an interface of that name.
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

    /// Calls another verb for it.
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

/// Queries port 53 of a server from a namespace, or from the host.
pub fn ask(room: &Room, from: Option<&str>, server: &str, question: &Question) -> Result<Reply> {
    asked(room, from, server, question, false)
}

/// The same over TCP.
pub fn ask_tcp(room: &Room, from: Option<&str>, server: &str, question: &Question) -> Result<Reply> {
    asked(room, from, server, question, true)
}

fn asked(room: &Room, from: Option<&str>, server: &str, question: &Question, tcp: bool) -> Result<Reply> {
    let server = SocketAddr::new(server.parse()?, 53);
    let send_raw = || if tcp { question.tcp(server) } else { question.udp(server) };
    match from {
        Some(ns) => room.inside(ns, send_raw),
        None => send_raw(),
    }
}

/// Sends a datagram that must not be answered, then a query; only the query's answer may arrive.
pub fn expect_no_answer(room: &Room, from: Option<&str>, server: &str, packet: &[u8]) -> Result<()> {
    let server = SocketAddr::new(server.parse()?, 53);
    let send_raw = || -> Result<()> {
        let socket = client(server)?;
        socket.send(packet)?;
        socket.send(&Question::new("web", kind::A).message(ID)?)?;
        Reply::read(receive(&socket)?).map(drop)
    };
    match from {
        Some(ns) => room.inside(ns, send_raw),
        None => send_raw(),
    }
}

/// Sends a datagram; returns the response as received.
pub fn send_raw(room: &Room, from: &str, server: &str, packet: &[u8]) -> Result<Vec<u8>> {
    let server = SocketAddr::new(server.parse()?, 53);
    room.inside(from, || {
        let socket = client(server)?;
        socket.send(packet)?;
        receive(&socket).with_context(|| format!("{server} about {packet:02x?}"))
    })
}

/// Checks that a namespace gets no answer over UDP or TCP while the host does.
pub fn expect_silence(room: &Room, from: &str, server: &str) -> Result<()> {
    let at = SocketAddr::new(server.parse()?, 53);
    let question = Question::new("web", kind::A);
    let message = question.message(ID)?;
    let (socket, stream) = room.inside(from, || {
        let socket = client(at)?;
        socket.send(&message)?;
        // A connection may be accepted and then closed.
        let stream = connect(at).ok().filter(|stream| {
            let mut stream: &std::net::TcpStream = stream;
            framed(&message).is_ok_and(|framed| stream.write_all(&framed).is_ok())
        });
        Ok((socket, stream))
    })?;
    // The host's queries go to the same sockets later, so earlier queries have been handled.
    ask(room, None, server, &question)?;
    ask_tcp(room, None, server, &question)?;
    socket.set_nonblocking(true)?;
    ensure!(receive(&socket).is_err(), "{server} answered {from}");
    if let Some(mut stream) = stream {
        ensure!(read_frame(&mut stream).is_err(), "{server} answered {from} over TCP");
    }
    Ok(())
}

/// The IPv4 addresses of a name, sorted as text; empty for an unknown name.
pub fn resolve(room: &Room, from: Option<&str>, server: &str, name: &str) -> Result<Vec<String>> {
    let reply = ask(room, from, server, &Question::new(name, kind::A))?;
    let mut texts: Vec<String> = reply.texts().into_iter().map(str::to_owned).collect();
    texts.sort();
    Ok(texts)
}

/// Checks that a name has exactly these addresses.
pub fn expect(room: &Room, from: Option<&str>, server: &str, name: &str, addresses: &[&str]) -> Result<()> {
    let who = from.unwrap_or("the host");
    let found =
        resolve(room, from, server, name).with_context(|| format!("{who} queries {server} for {name}"))?;
    ensure!(found == addresses, "{who} queried {server} for {name}: {found:?}, not {addresses:?}");
    Ok(())
}

/// The state directories: one for each network namespace that had a responder.
pub fn state_dirs() -> Vec<PathBuf> {
    let entries = fs::read_dir("/run/moor/dns").into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The process id of the responder of a state directory, while it runs.
pub fn responder(place: &Path) -> Option<u32> {
    let socket = place.join("responder.lock");
    let pid: u32 = fs::read_to_string(socket).ok()?.split_whitespace().next()?.parse().ok()?;
    // `pid (name) state …`: an exited process is a zombie until the room's first process
    // reaps it.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (stat.contains("(moor-dns)") && !stat.contains(") Z")).then_some(pid)
}

/// The only responder of the room.
pub fn responder_pid() -> Result<u32> {
    let state_dirs = state_dirs();
    ensure!(state_dirs.len() == 1, "there are {} state directories: {state_dirs:?}", state_dirs.len());
    responder(&state_dirs[0]).context("there is no responder")
}

/// Kills the only responder with SIGKILL, and waits until it is gone.
pub fn kill_responder() -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(responder_pid()?.try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    until(Duration::from_secs(2), "a killed responder is gone", || responder_pid().is_err())
}

/// Sends a request to the only control socket; returns the response, empty if the connection is
/// closed.
pub fn control(request: &str) -> Result<String> {
    let place = state_dirs().into_iter().next().context("no state directory")?;
    control_at(&place.join("control.sock"), request.as_bytes())
}

/// The same for that socket.
pub fn control_at(path: &Path, request: &[u8]) -> Result<String> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let timeout = TimeVal::seconds(5);
    setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)
        .with_context(|| format!("connect to {}", path.display()))?;
    match send(socket.as_raw_fd(), request, MsgFlags::MSG_NOSIGNAL) {
        // Closed before the request.
        Err(Errno::EPIPE) => return Ok(String::new()),
        done => done?,
    };
    let mut answer = [0; 4096];
    match recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
        // Closed with the request unread, or after it.
        Ok(0) | Err(Errno::ECONNRESET | Errno::EPIPE) => Ok(String::new()),
        Ok(length) => Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned()),
        Err(errno) => Err(errno).context("no answer at the control socket"),
    }
}

/// The figures of a network's kept answers, as the responder reports them.
pub fn cached(network: &str) -> Result<Value> {
    let answer: Value =
        serde_json::from_str(&control(&json!({"ask": "cache", "network": network}).to_string())?)?;
    answer.get("cache").cloned().with_context(|| answer.to_string())
}

/// Waits until a condition holds. `limit` is for an idle machine.
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + patience::on_this_machine(limit);
    while !condition() {
        ensure!(Instant::now() < deadline, "not within {} s: {what}", limit.as_secs());
        // Not at once: whom this waits for needs the processor.
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Record files: one for each attachment.
pub fn records() -> Vec<PathBuf> {
    let mut records = vec![];
    for place in state_dirs() {
        for network in fs::read_dir(place.join("net")).into_iter().flatten().flatten() {
            let files = fs::read_dir(network.path().join("att")).into_iter().flatten().flatten();
            records.extend(files.map(|entry| entry.path()));
        }
    }
    records.sort();
    records
}

/// Writes records of `count` attachments with three names each, beside that of a container;
/// restarts the responder.
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
