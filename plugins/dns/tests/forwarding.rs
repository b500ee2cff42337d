//! Forwarded queries.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use dns::record::Network;

/// D-040, D-041
#[test]
fn the_next_server_is_queried_after_a_timeout_or_failure() {
    in_own_network("the_next_server_is_queried_after_a_timeout_or_failure", || {
        let (silent, _) = server("127.0.2.1:53", |_| Vec::new());
        let (failing, _) = server("127.0.2.2:53", |question| vec![answered(question, 2)]);
        let (good, count) = server("127.0.2.3:53", |question| vec![answered(question, 0)]);
        let responder = Responder::start(&network(&[failing, good]));
        assert_eq!(ask("example.org"), (0, 1));
        responder.state_dir.put_network(&network(&[silent, good])).unwrap();
        assert_eq!(responder.sync("c1"), None);
        // A server counts as failing after three time-outs, not one.
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(ask("example.org"), (0, 1));
            assert!(began.elapsed() >= Duration::from_secs(1), "waits for the first server");
        }
        let began = Instant::now();
        let before = count.load(Ordering::SeqCst);
        assert_eq!(ask("example.com"), (0, 1));
        assert_eq!(count.load(Ordering::SeqCst), before + 1);
        assert!(began.elapsed() < Duration::from_secs(1), "the silent server is remembered");
    });
}

/// D-040
#[test]
fn servfail_is_returned_if_no_server_answers() {
    in_own_network("servfail_is_returned_if_no_server_answers", || {
        let (silent, count) = server("127.0.2.1:53", |_| Vec::new());
        let _responder = Responder::start(&network(&[silent, "127.0.2.9:53".parse().unwrap()]));
        assert_eq!(ask("example.org"), (2, 0));
        assert!(count.load(Ordering::SeqCst) >= 1);
    });
}

/// D-042, D-031: id, question and sender must match; NXDOMAIN is final (D-041).
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
        assert_eq!(buffer[2] & 4, 0, "not authoritative");
        assert_eq!(buffer[3] & 0x20, 0, "not validated");
        assert_eq!(others.load(Ordering::SeqCst), 0);
    });
}

/// D-043.
#[test]
fn our_own_address_is_not_queried() {
    in_own_network("our_own_address_is_not_queried", || {
        let _responder = Responder::start(&network(&[GATEWAY.parse().unwrap()]));
        let began = Instant::now();
        assert_eq!(ask("example.org"), (2, 0));
        assert!(began.elapsed() < Duration::from_secs(1), "no wait");
    });
}

/// D-043: port 53 of our address leads to us, whatever port we listen at.
#[test]
fn port_53_of_our_own_address_is_not_queried() {
    in_own_network("port_53_of_our_own_address_is_not_queried", || {
        let (own, count) = server("127.0.1.1:53", |question| vec![answered(question, 0)]);
        let _responder = Responder::start(&Network { port: 5353, ..network(&[own]) });
        assert_eq!(ask_at("127.0.1.1:5353", "example.org"), (2, 0));
        assert_eq!(count.load(Ordering::SeqCst), 0);
    });
}

/// D-046: TC is passed on, and a query over TCP is forwarded over TCP.
#[test]
fn truncated_forwarded_answers_are_available_over_tcp() {
    in_own_network("truncated_forwarded_answers_are_available_over_tcp", || {
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

/// D-047: a silent upstream server blocks nobody, and one client has at most 256 queries in
/// flight.
#[test]
fn unanswered_forwarded_queries_do_not_delay_local_ones() {
    in_own_network("unanswered_forwarded_queries_do_not_delay_local_ones", || {
        let (silent, count) = server("127.0.2.1:53", |_| Vec::new());
        let responder = Responder::start(&network(&[silent]));
        let flood = client();
        flood.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut refused = 0;
        let mut buffer = [0; 512];
        for n in 0..1500u16 {
            flood.send(&question(n, "example.org")).unwrap();
            // The first 256 are in flight; each of the others is answered at once.
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
