//! `dns serve` in its own namespaces: loopback addresses are the gateways and the upstream
//! servers.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, dead_code)]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dns::control::{ControlRequest, ControlResponse};
use dns::record::{Attachment, CrossNetwork, Key, Mode, Network, StateDir, VERSION};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};

pub const GATEWAY: &str = "127.0.1.1:53";

/// Runs `body` as the test `name` in a network of its own, with its loopback up.
pub fn in_own_network(name: &str, body: fn()) {
    sys::testing::in_own_network(name, || {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        body();
    });
}

/// A responder and its state directory.
pub struct Responder {
    pub child: Child,
    pub state_dir: StateDir,
    _dir: tempfile::TempDir,
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn network(upstreams: &[SocketAddr]) -> Network {
    let gateway: SocketAddr = GATEWAY.parse().unwrap();
    Network {
        v: VERSION,
        name: "n1".into(),
        mode: Mode::Gateway,
        listen: vec![gateway.ip()],
        port: gateway.port(),
        subnets: vec!["127.0.0.0/8".parse().unwrap()],
        ingress: Vec::new(),
        domain: Some("foo.io".into()),
        upstreams: Some(upstreams.to_vec()),
        internal: false,
        ttl: 0,
        cache: 0,
        forward_single_label: true,
        cross_network: CrossNetwork::First,
        from_dnsname: false,
    }
}

pub fn key(container: &str) -> Key {
    Key { container: container.into(), ifname: "eth0".into() }
}

pub fn attachment(container: &str, name: &str, ip: &str) -> Attachment {
    Attachment {
        v: VERSION,
        network: "n1".into(),
        key: key(container),
        names: vec![name.into()],
        ips: vec![ip.parse().unwrap()],
        upstreams: None,
        ingress: None,
        netns: None,
        namespace: None,
        order: 1,
    }
}

pub fn spawn(state_dir: &StateDir, grace: &str) -> (Child, String) {
    serve(Command::new(env!("CARGO_BIN_EXE_dns")), state_dir, grace)
}

/// Runs `command` as a responder; also returns its line on readiness.
pub fn serve(mut command: Command, state_dir: &StateDir, grace: &str) -> (Child, String) {
    let mut child = command
        .args(["serve", "--grace", grace, "--ready-fd", "1", "--place"])
        .arg(state_dir.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

impl Responder {
    /// Starts a responder with one network and `web` at 10.0.0.2 on it.
    pub fn start(network: &Network) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir::at(dir.path());
        state_dir.put_network(network).unwrap();
        state_dir.put_attachment(&attachment("c1", "web", "10.0.0.2")).unwrap();
        let (child, line) = spawn(&state_dir, "60");
        assert_eq!(line, "ok");
        Self { child, state_dir, _dir: dir }
    }

    pub fn control(&self) -> Control {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&self.state_dir.control()).unwrap();
        connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Control(stream)
    }

    pub fn sync(&self, container: &str) -> Option<String> {
        self.control()
            .ask(&ControlRequest::Sync { network: "n1".into(), key: Some(key(container)) })
            .unwrap()
            .error
    }
}

pub struct Control(pub UnixStream);

impl Control {
    pub fn send(&self, packet: &[u8]) {
        send(std::os::fd::AsRawFd::as_raw_fd(&self.0), packet, MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    /// Sends a request; `None` if the connection was closed.
    pub fn ask(&mut self, ask: &ControlRequest) -> Option<ControlResponse> {
        self.send(&ask.to_packet());
        self.receive()
    }

    pub fn receive(&mut self) -> Option<ControlResponse> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer).unwrap() {
            0 => None,
            length => Some(ControlResponse::from_packet(&buffer[..length]).unwrap()),
        }
    }
}

/// Waits for a condition, for less time than an administrator would.
pub fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within two seconds: {what}");
        thread::yield_now();
    }
}

pub const A: u16 = 1;

pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, u8::try_from(A).unwrap(), 0, 1]);
    packet
}

pub fn client() -> UdpSocket {
    client_of(GATEWAY)
}

fn client_of(server: &str) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
    client
}

/// The code and the number of answers.
pub fn outcome(answer: &[u8]) -> (u8, u8) {
    (answer[3] & 15, answer[7])
}

pub fn ask(name: &str) -> (u8, u8) {
    ask_at(GATEWAY, name)
}

pub fn ask_at(server: &str, name: &str) -> (u8, u8) {
    let client = client_of(server);
    client.send(&question(7, name)).unwrap();
    let mut buffer = [0; 2048];
    let length = client.recv(&mut buffer).expect("an answer");
    assert_eq!(buffer[..2], [0, 7]);
    outcome(&buffer[..length])
}

/// Whether the responder answers. The kernel refuses datagrams without a socket, but not those
/// that waited in a socket when it was closed.
pub fn is_heard() -> bool {
    let client = client();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client.send(&question(7, "web")).is_ok() && client.recv(&mut [0; 512]).is_ok()
}

pub fn over_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

pub fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

/// An upstream server that replies to each query with the messages of `answer`; also counts the
/// queries.
pub fn server(
    address: &str,
    answer: impl Fn(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind(address).unwrap();
    let (local, count) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let seen = Arc::clone(&count);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            seen.fetch_add(1, Ordering::SeqCst);
            for answer in answer(buffer[..length].to_vec()) {
                let _ = socket.send_to(&answer, peer);
            }
        }
    });
    (local, count)
}

/// An answer with a code, and with one address if the code is 0.
pub fn answered(mut question: Vec<u8>, code: u8) -> Vec<u8> {
    question[2] |= 0x84;
    question[3] = 0x20 | code;
    if code == 0 {
        question[7] = 1;
        question.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
    }
    question
}
