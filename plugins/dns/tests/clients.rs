//! Clients of all kinds, and how little they can affect others.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, socket};

use common::*;

#[test]
fn local_names_are_answered_over_udp_and_tcp_and_pipelined() {
    in_own_network("local_names_are_answered_over_udp_and_tcp_and_pipelined", || {
        let _responder = Responder::start(&network(&[]));
        assert_eq!(ask("web"), (0, 1));
        assert_eq!(ask("none.foo.io"), (3, 0));
        assert_eq!(ask("example.org"), (5, 0), "nobody to forward to: REFUSED");
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

/// D-052, CVE-2024-8418, CVE-2026-35406: a partial frame and then the end, or silence.
#[test]
fn slow_and_broken_tcp_clients_block_nobody() {
    in_own_network("slow_and_broken_tcp_clients_block_nobody", || {
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
            // A close with unread bytes may be reported as a reset.
            assert!(matches!(stream.read(&mut [0; 9]), Ok(0) | Err(_)));
        }
        // More than one client's limit: its own connections are closed, and others are
        // served.
        kept.extend((0..300).map(|_| TcpStream::connect(GATEWAY).unwrap()));
        let before = spent();
        assert_eq!(ask("web"), (0, 1));
        let mut other = connect_from("127.0.0.9");
        other.write_all(&framed(&question(5, "web"))).unwrap();
        assert_eq!(outcome(&over_tcp(&mut other)), (0, 1));
        // They are closed after five seconds; until then they cost no CPU time.
        kept.swap_remove(1).read_to_end(&mut Vec::new()).unwrap();
        assert!(spent() - before < Duration::from_millis(100), "{:?}", spent() - before);
    });
}

fn connect_from(address: &str) -> TcpStream {
    use nix::sys::socket::{SockaddrIn, bind};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let ip: IpAddr = address.parse().unwrap();
    let IpAddr::V4(ip) = ip else { panic!("not an IPv4 address") };
    bind(number, &SockaddrIn::from(std::net::SocketAddrV4::new(ip, 0))).unwrap();
    let SocketAddr::V4(gateway) = GATEWAY.parse().unwrap() else { panic!("not an IPv4 address") };
    connect(number, &SockaddrIn::from(gateway)).unwrap();
    socket.into()
}
