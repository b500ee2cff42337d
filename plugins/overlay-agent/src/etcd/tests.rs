use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use cluster::settings::Settings;

use super::*;

/// A test in its own network, with loopback.
macro_rules! network_test {
    (fn $name:ident() $body:block) => {
        #[test]
        fn $name() {
            sys::testing::in_own_network(concat!("etcd::tests::", stringify!($name)), || {
                sys::testing::run("ip link set lo up");
                $body
            });
        }
    };
}

/// A server that answers each request in turn with one of these, on any number of connections; the
/// paths and bodies that were asked.
fn server(answers: Vec<(u16, String)>) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = channel();
    thread::spawn(move || {
        let mut answers = answers.into_iter();
        while let Ok((mut stream, _)) = listener.accept() {
            let Some((status, body)) = answers.next() else { return };
            let Some(request) = request(&stream) else { return };
            asked.send(request).unwrap();
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            // The client may have seen enough.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    (url, requests)
}

fn request(stream: &TcpStream) -> Option<(String, String)> {
    let mut lines = BufReader::new(stream);
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        if line == "\r\n" {
            break;
        }
        let lower = line.to_ascii_lowercase();
        match (line.strip_prefix("POST "), lower.strip_prefix("content-length:")) {
            (Some(rest), _) => path = rest.split(' ').next()?.to_owned(),
            (_, Some(number)) => length = number.trim().parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    Some((path, String::from_utf8(body).ok()?))
}

fn client(endpoints: &[&str]) -> Client {
    let text = serde_json::json!({ "endpoints": endpoints }).to_string();
    Client::new(&Settings::parse(Path::new("/cluster.json"), Some(text.as_bytes())).unwrap())
}

fn answering(answers: &[(u16, &str)]) -> (Client, Receiver<(String, String)>) {
    let (url, requests) =
        server(answers.iter().map(|(status, body)| (*status, (*body).to_owned())).collect());
    (client(&[&url]), requests)
}

const HEADER: &str = r#""header":{"cluster_id":"7","member_id":"8","revision":"9","raft_term":"2"}"#;

network_test! {
    fn absent_members_are_zero_and_numbers_are_strings() {
        let kvs = r#"[{"key":"L20vYQ==","create_revision":"3","mod_revision":"18446744073709551","value":"eA=="},
            {"key":"L20vYg==","lease":"5"}]"#;
        let (client, requests) = answering(&[(200, &format!("{{{HEADER},\"kvs\":{kvs},\"count\":\"2\"}}"))]);
        let answer = client.read(b"/m/").unwrap();
        let records = answer.value.records;
        assert_eq!((answer.value.revision, answer.header.cluster, records.len()), (9, 7, 2));
        assert_eq!((records[0].key.as_slice(), records[0].mod_revision), (b"/m/a".as_slice(), 18_446_744_073_709_551));
        assert_eq!((records[1].value.len(), records[1].lease, records[1].create_revision), (0, 5, 0));
        let (path, body) = requests.recv().unwrap();
        assert_eq!(path, "/v3/kv/range");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((body["key"].as_str(), body["range_end"].as_str()), (Some("L20v"), Some("L20w")));
        assert_eq!(body.get("serializable"), None);
    }
}

network_test! {
    fn pages_are_of_one_revision_and_bad_records_are_left_out() {
        let big = "QUFB".repeat((VALUE_MAX + 3) / 3);
        let first = format!(
            r#"{{{HEADER},"more":true,"kvs":[{{"key":"L20vYQ==","value":"eA=="}},{{"key":"L20vYg==","value":"{big}"}}]}}"#
        );
        let second = format!(r#"{{{HEADER},"kvs":[{{"key":"L20vYw==","value":"no base64"}},{{"key":"L20vZA=="}}]}}"#);
        let (client, requests) = answering(&[(200, &first), (200, &second)]);
        let whole = client.read(b"/m/").unwrap().value;
        let keys: Vec<&[u8]> = whole.records.iter().map(|record| record.key.as_slice()).collect();
        assert_eq!(keys, [b"/m/a", b"/m/d"]);
        let left_out: Vec<&str> = whole.left_out.iter().map(|one| one.key.as_str()).collect();
        assert_eq!(left_out, ["/m/b", "/m/c"]);
        requests.recv().unwrap();
        let body: serde_json::Value = serde_json::from_str(&requests.recv().unwrap().1).unwrap();
        // Behind the last key, although it was left out, at the first page's revision.
        assert_eq!((body["key"].as_str(), body["revision"].as_str()), (Some("L20vYgA="), Some("9")));
    }
}

network_test! {
    fn hostile_answers_are_errors() {
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let foreign = format!(r#"{{{HEADER},"kvs":[{{"key":"L2V0Yw=="}}]}}"#);
        let stuck = format!(r#"{{{HEADER},"more":true,"kvs":[{{"key":"!"}}]}}"#);
        let long = " ".repeat(RESPONSE_MAX + 10);
        for body in [deep.as_str(), &foreign, &stuck, "", "nonsense", "{}", r#"{"header":{"revision":"x"}}"#] {
            let (client, _requests) = answering(&[(200, body)]);
            assert!(matches!(client.read(b"/m/"), Err(Error::Malformed(_))), "{body:.40}");
        }
        let (client, _requests) = answering(&[(200, &long)]);
        assert!(matches!(client.grant(5), Err(Error::Malformed(_))));
    }
}

network_test! {
    fn errors_of_etcd_have_their_meaning() {
        let failed = |status: u16, code: i64, message: &str| {
            let body = serde_json::json!({"error": message, "message": message, "code": code}).to_string();
            let (client, _requests) = answering(&[(status, &body), (status, &body)]);
            client.put(b"k", b"v", 0).unwrap_err()
        };
        let error = failed(429, 8, "etcdserver: mvcc: database space exceeded");
        assert!(matches!(error, Error::Full(_)) && error.is_away());
        let error = failed(503, 14, "etcdserver: request timed out");
        assert!(matches!(error, Error::NoQuorum(_)) && error.is_away());
        assert!(matches!(failed(500, 2, "context deadline exceeded"), Error::NoQuorum(_)));
        assert!(matches!(failed(404, 5, "etcdserver: requested lease not found"), Error::UnknownLease));
        let error = failed(403, 7, "etcdserver: permission denied");
        assert!(matches!(error, Error::Refused(Refusal::Permission, _)) && !error.is_away());
        assert!(error.to_string().contains("permission denied") && error.to_string().contains("role"));
        assert!(matches!(failed(401, 16, "etcdserver: invalid auth token"), Error::Refused(Refusal::Credentials, _)));
        let words = "connection error: desc = \"transport: failed to write client preface: connection reset by peer\"";
        assert!(failed(503, 14, words).to_string().contains("clientAuth beside serverAuth"));
        let error = failed(400, 3, "CommonName of client sending a request against gateway will be ignored");
        assert!(error.to_string().contains("without Common Name"), "{error}");
    }
}

network_test! {
    fn a_member_that_refuses_is_left_for_the_next_but_a_sent_transaction_is_not_repeated() {
        let done = format!("{{{HEADER},\"succeeded\":true}}");
        for _ in 0..4 {
            let (url, _requests) = server(vec![(200, done.clone())]);
            let client = client(&["http://127.0.0.1:1", &url]);
            assert!(client.txn(&Txn::default()).unwrap().value.succeeded);
        }
        // A member that takes the request, and falls.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let falls = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                drop(request(&stream));
            }
        });
        let (url, requests) = server(vec![(200, done.clone()), (200, done)]);
        let client = client(&[&falls, &url]);
        let first = client.txn(&Txn::default());
        let second = client.txn(&Txn::default());
        // In one order the first falls, in the other both are done by the good one.
        assert!(first.is_ok() || first.unwrap_err().is_away());
        assert!(second.is_ok());
        assert!(requests.try_iter().count() <= 2);
    }
}

network_test! {
    fn a_keepalive_of_an_unknown_lease_is_none() {
        let gone = format!(r#"{{"result":{{{HEADER},"ID":"5"}}}}"#);
        let lives = format!(r#"{{"result":{{{HEADER},"ID":"5","TTL":"10"}}}}"#);
        let (client, _requests) = answering(&[(200, &gone), (200, &lives)]);
        assert_eq!(client.keep_alive(5).unwrap().value, None);
        assert_eq!(client.keep_alive(5).unwrap().value, Some(10));
    }
}

network_test! {
    fn a_watch_is_ended_by_another_thread() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let peer = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            request(&stream).unwrap();
            let line = format!("{{\"result\":{{{HEADER},\"created\":true}}}}\n");
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            write!(stream, "{head}{:x}\r\n{line}\r\n", line.len()).unwrap();
            // It is silent from now on; a shut socket ends this.
            stream.read(&mut [0]).unwrap()
        });
        let mut watch = client(&[&url]).watch(b"/m/", 10).unwrap();
        assert_eq!(watch.next().unwrap().header.revision, 9);
        let stopper = watch.stopper();
        let began = Instant::now();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            stopper.stop();
        });
        assert_eq!(watch.next(), Err(WatchEnd::Stopped));
        assert!(began.elapsed() < Duration::from_secs(2));
        assert_eq!(peer.join().unwrap(), 0);
    }
}

#[test]
fn a_line_of_a_watch_says_why_it_ends() {
    let end = |line: &str| watch::collect("m", line.as_bytes(), &mut Events::default());
    assert_eq!(end(r#"{"result":{"canceled":true,"compact_revision":"6"}}"#), Err(WatchEnd::Compacted(6)));
    let lost = r#"{"result":{"canceled":true,"cancel_reason":"etcdserver: no leader"}}"#;
    assert_eq!(end(lost), Err(WatchEnd::Canceled("etcdserver: no leader".into())));
    let error = r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#;
    assert!(matches!(end(error), Err(WatchEnd::Failed(Error::NoQuorum(_)))));
    assert!(matches!(end("{}"), Err(WatchEnd::Failed(Error::Malformed(_)))));
    assert_eq!(end(r#"{"result":{"fragment":true}}"#), Ok(false));
}

#[test]
fn a_transaction_of_too_many_operations_is_not_sent() {
    let txn = Txn { then: vec![Operation::Delete(Vec::new()); OPERATIONS_MAX + 1], ..Txn::default() };
    assert_eq!(client(&["http://127.0.0.1:1"]).txn(&txn), Err(Error::TooManyOperations(129)));
}

#[test]
fn a_password_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pw");
    std::fs::write(&path, "secret\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(identity::password(&path).unwrap_err().to_string().contains("0600"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(identity::password(&path).unwrap(), "secret");
}

#[test]
fn the_range_of_a_prefix_ends_behind_it() {
    for (prefix, end) in [(&b"/m/"[..], &b"/m0"[..]), (b"a\xff", b"b"), (b"\xff\xff", b"\0"), (b"", b"\0")] {
        assert_eq!(request::end_of(prefix), end);
    }
}

#[test]
fn pauses_grow_to_five_seconds_and_begin_anew() {
    let mut backoff = Backoff::default();
    assert_eq!(backoff.failed(0), Duration::from_millis(200));
    assert!((100..=200).contains(&Backoff::default().failed(1023).as_millis()));
    let pauses: Vec<Duration> = (0..40).map(|_| backoff.failed(0)).collect();
    assert_eq!(pauses.last(), Some(&Duration::from_secs(5)));
    backoff.succeeded();
    assert_eq!(backoff.failed(0), Duration::from_millis(200));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>, at in 0_usize..400, byte: u8) {
        fuzz::answer(&bytes);
        let event = r#"{"type":"DELETE","kv":{"key":"L20vYQ==","mod_revision":"4"}}"#;
        let whole = format!(
            r#"{{{HEADER},"result":{{{HEADER},"events":[{event}],"ID":"5","TTL":"6"}},"kvs":[{{"key":"L20vYQ=="}}],
            "responses":[{{"response_range":{{"kvs":[{{"value":"eA=="}}]}}}}],"errors":["NOSPACE"],"code":8}}"#
        );
        let mut changed = whole.into_bytes();
        let at = at % changed.len();
        changed[at] = byte;
        fuzz::answer(&changed);
        fuzz::answer(&changed[..at]);
    }
}
