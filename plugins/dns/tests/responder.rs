//! `dns serve` in a namespace of its own: loopback addresses are the gateways, and servers of the outside.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use dns::control::{Answer, Ask};
use dns::record::{Attachment, CrossNetwork, Key, Mode, Network, Place, VERSION};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket};

/// Tells a test that it runs inside already.
const INSIDE: &str = "MOOR_DNS_TEST_INSIDE";
const GATEWAY: &str = "127.0.1.1:53";

/// Runs `body` as the test `name` alone in a process with network and mount namespaces of its own.
fn in_own_network(name: &str, body: fn()) {
    if env::var_os(INSIDE).is_some_and(|inside| inside == name) {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        return body();
    }
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "60", "unshare", "--net", "--mount"]);
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let program = env::current_exe().unwrap();
    command.arg("--").arg(program).args([name, "--exact", "--nocapture"]).env(INSIDE, name);
    let output = command.output().expect("timeout(1) and unshare(1) are needed for namespace tests");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    // A harness that finds no such test succeeds as well.
    let passed = output.status.success() && said.contains("test result: ok. 1 passed");
    assert!(passed, "in namespaces of its own: {}\n{said}\n{complained}", output.status);
}

/// A responder, and its place.
struct Responder {
    child: Child,
    place: Place,
    _dir: tempfile::TempDir,
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn network(upstreams: &[SocketAddr]) -> Network {
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
        forward_single_label: true,
        cross_network: CrossNetwork::First,
    }
}

fn key(container: &str) -> Key {
    Key { container: container.into(), ifname: "eth0".into() }
}

fn attachment(container: &str, name: &str, ip: &str) -> Attachment {
    Attachment {
        v: VERSION,
        network: "n1".into(),
        key: key(container),
        names: vec![name.into()],
        ips: vec![ip.parse().unwrap()],
        upstreams: None,
        ingress: None,
        netns: None,
        order: 1,
    }
}

fn spawn(place: &Place, grace: &str) -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dns"))
        .args(["serve", "--grace", grace, "--ready-fd", "1", "--place"])
        .arg(place.dir())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

impl Responder {
    /// With one network, and `web` at 10.0.0.2 on it.
    fn start(network: &Network) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::at(dir.path());
        place.put_network(network).unwrap();
        place.put_attachment(&attachment("c1", "web", "10.0.0.2")).unwrap();
        let (child, line) = spawn(&place, "60");
        assert_eq!(line, "ok");
        Self { child, place, _dir: dir }
    }

    fn control(&self) -> Control {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&self.place.control()).unwrap();
        connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &address).unwrap();
        let stream = UnixStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Control(stream)
    }

    fn sync(&self, container: &str) -> Option<String> {
        self.control().ask(&Ask::Sync { network: "n1".into(), key: Some(key(container)) }).unwrap().error
    }
}

struct Control(UnixStream);

impl Control {
    fn send(&self, packet: &[u8]) {
        send(std::os::fd::AsRawFd::as_raw_fd(&self.0), packet, MsgFlags::MSG_NOSIGNAL).unwrap();
    }

    /// `None` when the connection was closed instead of an answer.
    fn ask(&mut self, ask: &Ask) -> Option<Answer> {
        self.send(&ask.to_packet());
        self.receive()
    }

    fn receive(&mut self) -> Option<Answer> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer).unwrap() {
            0 => None,
            length => Some(Answer::of_packet(&buffer[..length]).unwrap()),
        }
    }
}

const A: u16 = 1;

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet[..2].copy_from_slice(&id.to_be_bytes());
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, u8::try_from(A).unwrap(), 0, 1]);
    packet
}

fn client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(GATEWAY).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(7))).unwrap();
    client
}

/// The code and the number of answers.
fn outcome(answer: &[u8]) -> (u8, u8) {
    (answer[3] & 15, answer[7])
}

fn ask(name: &str) -> (u8, u8) {
    let client = client();
    client.send(&question(7, name)).unwrap();
    let mut buffer = [0; 2048];
    let length = client.recv(&mut buffer).expect("an answer");
    assert_eq!(buffer[..2], [0, 7]);
    outcome(&buffer[..length])
}

fn over_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], packet].concat()
}

/// A server of the outside that answers each question with what `answer` makes of it; also tells how many came.
fn server(
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

/// An answer with that code, and one address if it is 0.
fn answered(mut question: Vec<u8>, code: u8) -> Vec<u8> {
    question[2] |= 0x84;
    question[3] = 0x20 | code;
    if code == 0 {
        question[7] = 1;
        question.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
    }
    question
}

#[test]
fn local_names_are_answered_over_udp_and_tcp_and_pipelined() {
    in_own_network("local_names_are_answered_over_udp_and_tcp_and_pipelined", || {
        let _responder = Responder::start(&network(&[]));
        assert_eq!(ask("web"), (0, 1));
        assert_eq!(ask("none.foo.io"), (3, 0));
        assert_eq!(ask("example.org"), (5, 0), "nobody is to be asked: REFUSED");
        let mut stream = TcpStream::connect(GATEWAY).unwrap();
        let all: Vec<u8> = (1..=20).flat_map(|id| framed(&question(id, "web"))).collect();
        // In pieces that end anywhere.
        for piece in all.chunks(13) {
            stream.write_all(piece).unwrap();
        }
        for id in 1..=20u16 {
            let answer = over_tcp(&mut stream);
            assert_eq!((&answer[..2], outcome(&answer)), (&id.to_be_bytes()[..], (0, 1)));
        }
    });
}

/// D-040, D-041: who does not answer, or does not know, is not the last to be asked.
#[test]
fn another_server_is_asked_when_one_is_silent_or_fails() {
    in_own_network("another_server_is_asked_when_one_is_silent_or_fails", || {
        let (silent, _) = server("127.0.2.1:53", |_| Vec::new());
        let (failing, _) = server("127.0.2.2:53", |question| vec![answered(question, 2)]);
        let (good, count) = server("127.0.2.3:53", |question| vec![answered(question, 0)]);
        let responder = Responder::start(&network(&[failing, good]));
        assert_eq!(ask("example.org"), (0, 1));
        responder.place.put_network(&network(&[silent, good])).unwrap();
        assert_eq!(responder.sync("c1"), None);
        let began = Instant::now();
        assert_eq!(ask("example.org"), (0, 1));
        assert!(began.elapsed() >= Duration::from_secs(1), "it was waited for the first one");
        let before = count.load(Ordering::SeqCst);
        assert_eq!(ask("example.com"), (0, 1));
        assert_eq!(count.load(Ordering::SeqCst), before + 1);
        assert!(began.elapsed() < Duration::from_secs(4), "it is remembered who was silent");
    });
}

/// D-040: never silence.
#[test]
fn when_nobody_answers_that_is_the_answer() {
    in_own_network("when_nobody_answers_that_is_the_answer", || {
        let (silent, count) = server("127.0.2.1:53", |_| Vec::new());
        let _responder = Responder::start(&network(&[silent, "127.0.2.9:53".parse().unwrap()]));
        assert_eq!(ask("example.org"), (2, 0));
        assert!(count.load(Ordering::SeqCst) >= 1);
    });
}

/// D-042, D-031: the number, the question and the sender must be right; NXDOMAIN is final (D-041).
#[test]
fn forged_answers_are_ignored() {
    in_own_network("forged_answers_are_ignored", || {
        let (second, others) = server("127.0.2.2:53", |question| vec![answered(question, 0)]);
        let (first, _) = server("127.0.2.1:53", move |question| {
            let mut wrong_id = answered(question.clone(), 0);
            wrong_id[0] ^= 0xff;
            let mut wrong_question = answered(question.clone(), 0);
            wrong_question[13] ^= 0x03;
            let no_answer = question.clone();
            vec![wrong_id, wrong_question, no_answer, vec![0; 3], answered(question, 3)]
        });
        let _responder = Responder::start(&network(&[first, second]));
        let client = client();
        client.send(&question(9, "Example.ORG")).unwrap();
        let mut buffer = [0; 512];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(outcome(&buffer[..length]), (3, 0));
        assert_eq!(
            buffer[12..],
            question(9, "Example.ORG")[12..].iter().copied().chain([0; 512]).take(500).collect::<Vec<_>>()
        );
        assert_eq!(buffer[2] & 4, 0, "not our own word");
        assert_eq!(buffer[3] & 0x20, 0, "nobody verified it for us");
        assert_eq!(others.load(Ordering::SeqCst), 0);
    });
}

/// D-043.
#[test]
fn our_own_address_is_not_asked() {
    in_own_network("our_own_address_is_not_asked", || {
        let _responder = Responder::start(&network(&[GATEWAY.parse().unwrap()]));
        let began = Instant::now();
        assert_eq!(ask("example.org"), (2, 0));
        assert!(began.elapsed() < Duration::from_secs(1), "nobody was waited for");
    });
}

/// D-046: TC is passed on, and over TCP the server is asked over TCP.
#[test]
fn what_is_truncated_outside_is_had_over_tcp() {
    in_own_network("what_is_truncated_outside_is_had_over_tcp", || {
        let (outside, _) = server("127.0.2.1:53", |mut question| {
            question[2] |= 0x82;
            vec![question]
        });
        let listener = std::net::TcpListener::bind("127.0.2.1:53").unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let question = over_tcp(&mut stream);
                let frame = framed(&answered(question, 0));
                // In two pieces.
                stream.write_all(&frame[..7]).unwrap();
                stream.write_all(&frame[7..]).unwrap();
            }
        });
        let _responder = Responder::start(&network(&[outside]));
        let udp = client();
        udp.send(&question(7, "example.org")).unwrap();
        let mut buffer = [0; 512];
        udp.recv(&mut buffer).unwrap();
        assert_eq!((buffer[2] & 2, outcome(&buffer)), (2, (0, 0)));
        let mut stream = TcpStream::connect(GATEWAY).unwrap();
        let all = [
            framed(&question(1, "example.org")),
            framed(&question(2, "web")),
            framed(&question(3, "example.com")),
        ];
        stream.write_all(&all.concat()).unwrap();
        let mut ids: Vec<_> = (0..3)
            .map(|_| {
                let answer = over_tcp(&mut stream);
                assert_eq!(outcome(&answer), (0, 1));
                answer[1]
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3]);
    });
}

/// D-047: what is asked of a black hole is in nobody's way, and not more than 256 of one client.
#[test]
fn questions_that_nobody_answers_do_not_keep_local_ones_waiting() {
    in_own_network("questions_that_nobody_answers_do_not_keep_local_ones_waiting", || {
        let (silent, count) = server("127.0.2.1:53", |_| Vec::new());
        let responder = Responder::start(&network(&[silent]));
        let flood = client();
        flood.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut refused = 0;
        let mut buffer = [0; 512];
        for n in 0..1500u16 {
            flood.send(&question(n, "example.org")).unwrap();
            // The first 256 are on their way; each of the others is answered at once.
            if n >= 256 {
                flood.recv(&mut buffer).unwrap();
                refused += usize::from(outcome(&buffer) == (2, 0));
            }
        }
        assert_eq!(refused, 1500 - 256);
        assert_eq!(ask("web"), (0, 1));
        let open = fs::read_dir(format!("/proc/{}/fd", responder.child.id())).unwrap().count();
        assert!(open < 300, "{open} descriptors");
        assert!(count.load(Ordering::SeqCst) <= 2 * 256);
    });
}

/// D-052, CVE-2024-8418, CVE-2026-35406: half a frame and then the end, or nothing more, or never anything.
#[test]
fn clients_that_say_half_or_nothing_are_in_nobodys_way() {
    in_own_network("clients_that_say_half_or_nothing_are_in_nobodys_way", || {
        let responder = Responder::start(&network(&[]));
        let spent = || {
            let text = fs::read_to_string(format!("/proc/{}/schedstat", responder.child.id())).unwrap();
            Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
        };
        let mut kept = Vec::new();
        for half in [&[][..], &[0], &[0, 30], &[0, 30, 1, 2, 3]] {
            let mut closing = TcpStream::connect(GATEWAY).unwrap();
            closing.write_all(half).unwrap();
            closing.shutdown(std::net::Shutdown::Write).unwrap();
            closing.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            assert_eq!(closing.read(&mut [0; 9]).unwrap(), 0, "closed at the end of {half:?}");
            let mut waiting = TcpStream::connect(GATEWAY).unwrap();
            waiting.write_all(half).unwrap();
            kept.push(waiting);
        }
        for wrong in [&[0, 5, 1, 2, 3, 4, 5][..], &[0xff, 0xff, 0]] {
            let mut stream = TcpStream::connect(GATEWAY).unwrap();
            stream.write_all(wrong).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // Closed with bytes unread may be told as a reset.
            assert!(matches!(stream.read(&mut [0; 9]), Ok(0) | Err(_)));
        }
        // More than one client may have, from an address that is then refused, and others are not.
        kept.extend((0..300).map(|_| TcpStream::connect(GATEWAY).unwrap()));
        let before = spent();
        assert_eq!(ask("web"), (0, 1));
        let mut other = connect_from("127.0.0.9");
        other.write_all(&framed(&question(5, "web"))).unwrap();
        assert_eq!(outcome(&over_tcp(&mut other)), (0, 1));
        // They are closed after five seconds; until then nothing is done about them.
        kept.swap_remove(1).read_to_end(&mut Vec::new()).unwrap();
        assert!(spent() - before < Duration::from_millis(100), "{:?}", spent() - before);
    });
}

fn connect_from(address: &str) -> TcpStream {
    use nix::sys::socket::{SockaddrIn, bind};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let ip: IpAddr = address.parse().unwrap();
    let IpAddr::V4(ip) = ip else { panic!("an IPv4 address is wanted") };
    bind(number, &SockaddrIn::from(std::net::SocketAddrV4::new(ip, 0))).unwrap();
    let SocketAddr::V4(gateway) = GATEWAY.parse().unwrap() else { panic!("an IPv4 address is wanted") };
    connect(number, &SockaddrIn::from(gateway)).unwrap();
    socket.into()
}

/// D-053.
#[test]
fn of_the_capabilities_only_that_for_port_53_is_left() {
    in_own_network("of_the_capabilities_only_that_for_port_53_is_left", || {
        let responder = Responder::start(&network(&[]));
        let status = fs::read_to_string(format!("/proc/{}/status", responder.child.id())).unwrap();
        for line in [
            "CapPrm:\t0000000000000400",
            "CapEff:\t0000000000000400",
            "CapInh:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line}\n{status}");
        }
    });
}

/// D-055.
#[test]
fn what_is_no_question_on_the_control_socket_ends_the_connection_alone() {
    in_own_network("what_is_no_question_on_the_control_socket_ends_the_connection_alone", || {
        let responder = Responder::start(&network(&[]));
        for junk in [b"junk".to_vec(), b"{}".to_vec(), vec![b' '; 5000], br#"{"ask":"what"}"#.to_vec()] {
            let mut control = responder.control();
            control.send(&junk);
            assert_eq!(control.receive(), None);
        }
        let mut control = responder.control();
        for _ in 0..3 {
            assert_eq!(control.ask(&Ask::Hello).unwrap().pid, responder.child.id());
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(responder.place.control()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    });
}

/// D-001, D-065, D-068: `sync` answers when it is so.
#[test]
fn what_is_recorded_is_answered_when_sync_answers_and_what_is_removed_is_not() {
    in_own_network("what_is_recorded_is_answered_when_sync_answers_and_what_is_removed_is_not", || {
        let responder = Responder::start(&network(&[]));
        for round in 0..50 {
            let container = format!("r{round}");
            responder.place.put_attachment(&attachment(&container, "new", "10.0.0.9")).unwrap();
            assert_eq!(responder.sync(&container), None);
            assert_eq!(ask("new.foo.io"), (0, 1));
            assert!(responder.place.remove_attachment("n1", &key(&container)).unwrap());
            assert_eq!(responder.sync(&container), None);
            assert_eq!(ask("new.foo.io"), (3, 0));
        }
        // With the last attachment goes the network, and its sockets with it.
        responder.place.remove_attachment("n1", &key("c1")).unwrap();
        assert_eq!(responder.sync("c1"), None);
        let taken = UdpSocket::bind(GATEWAY).unwrap();
        responder.place.put_network(&network(&[])).unwrap();
        responder.place.put_attachment(&attachment("c1", "web", "10.0.0.2")).unwrap();
        let error = responder.sync("c1").expect("the port is taken");
        for part in [GATEWAY, "UDP", "in use"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        drop(taken);
        assert_eq!(responder.sync("c1"), None);
        assert_eq!(ask("web"), (0, 1));
    });
}

/// D-069, D-070: not one question is lost while the records change and while the executable does.
#[test]
fn no_question_is_lost_by_reloads_and_by_a_new_executable() {
    in_own_network("no_question_is_lost_by_reloads_and_by_a_new_executable", || {
        let (outside, _) = server("127.0.2.1:53", |question| vec![answered(question, 0)]);
        let responder = Responder::start(&network(&[outside]));
        let over = Arc::new(AtomicBool::new(false));
        let (begun, started) = mpsc::channel();
        let askers: Vec<_> = ["web", "example.org"]
            .map(|name| {
                let (over, begun) = (Arc::clone(&over), begun.clone());
                thread::spawn(move || {
                    let mut asked = 0;
                    while !over.load(Ordering::SeqCst) {
                        assert_eq!(ask(name), (0, 1));
                        asked += 1;
                        let _ = begun.send(());
                    }
                    asked
                })
            })
            .into();
        started.recv().unwrap();
        for round in 0..40 {
            responder.place.put_attachment(&attachment(&format!("r{round}"), "new", "10.0.0.9")).unwrap();
            responder.control().ask(&Ask::Sync { network: "n1".into(), key: None }).unwrap();
        }
        let pid = responder.child.id();
        for _ in 0..5 {
            let path = env!("CARGO_BIN_EXE_dns").to_owned();
            assert_eq!(responder.control().ask(&Ask::Reexec { path }).unwrap().error, None);
            // The successor answers on the same socket, under the same number.
            assert_eq!(responder.control().ask(&Ask::Hello).unwrap().pid, pid);
        }
        assert!(responder.control().ask(&Ask::Reexec { path: "/none".into() }).unwrap().error.is_some());
        over.store(true, Ordering::SeqCst);
        for asker in askers {
            assert!(asker.join().unwrap() > 0);
        }
        let second = spawn(&responder.place, "60").1;
        assert!(second.contains("another responder lives"), "the lock was held all the time: {second}");
    });
}

/// D-061, D-071: a killed one leaves nothing in the way; one that nobody needs ends, and says so by its socket.
#[test]
fn the_lock_is_the_life_and_nobody_to_answer_for_is_its_end() {
    in_own_network("the_lock_is_the_life_and_nobody_to_answer_for_is_its_end", || {
        let mut responder = Responder::start(&network(&[]));
        responder.child.kill().unwrap();
        responder.child.wait().unwrap();
        assert!(responder.place.control().exists());
        let (child, line) = spawn(&responder.place, "0");
        responder.child = child;
        assert_eq!(line, "ok");
        assert_eq!(ask("web"), (0, 1));
        let held = responder.place.lock().unwrap();
        responder.place.remove_attachment("n1", &key("c1")).unwrap();
        assert_eq!(responder.sync("c1"), None, "while a plugin is at work it stays");
        drop(held);
        assert!(responder.child.wait().unwrap().success());
        assert!(!responder.place.control().exists());
        assert!(responder.place.responder_lock().exists());
    });
}
