//! The client, against a bus that the test plays; and its reader, on anything.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::address::Address;
use crate::error::Fault;
use crate::message::{self, Message, Value};
use crate::wire::Writer;
use crate::{Bus, Error, Object, fuzz};

const OBJECT: Object<'static> =
    Object { destination: "org.example.It", path: "/org/example/It", interface: "org.example.It" };
const LIMIT: Duration = Duration::from_millis(300);

/// A message to the client: kind, the call that it answers, its error's name, signature and body.
fn answer(kind: u8, call: u32, name: Option<&str>, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = Writer::default();
    fields.bytes.push(5);
    fields.signature("u");
    fields.number(call);
    for (code, of, value) in [(4, "s", name), (7, "s", Some(":1.1")), (8, "g", Some(signature))] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            fields.align(8);
            fields.bytes.push(code);
            fields.signature(of);
            if of == "g" { fields.signature(value) } else { fields.text(value) }
        }
    }
    let mut message = Writer::default();
    message.bytes.extend([b'l', kind, 1, 1]);
    message.number(u32::try_from(body.len()).unwrap());
    message.number(7);
    message.number(u32::try_from(fields.bytes.len()).unwrap());
    message.bytes.extend(&fields.bytes);
    message.align(8);
    message.bytes.extend(body);
    message.bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(text);
    body.bytes
}

/// Accepts one client and authenticates it; then sends each answer for one message.
fn bus(at: &Path, answers: Vec<Vec<u8>>) -> JoinHandle<Vec<u8>> {
    let listener = UnixListener::bind(at).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut line = [0; 64];
        let count = stream.read(&mut line).unwrap();
        assert!(line.starts_with(b"\0AUTH EXTERNAL ") && line[..count].ends_with(b"\r\n"));
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").unwrap();
        let mut begin = [0; 7];
        stream.read_exact(&mut begin).unwrap();
        let mut seen = Vec::new();
        for answer in answers {
            seen.append(&mut receive(&mut stream));
            stream.write_all(&answer).unwrap();
        }
        // Until the client goes.
        while stream.read(&mut line).is_ok_and(|count| count > 0) {}
        seen
    })
}

fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let mut bytes = head.to_vec();
    bytes.resize(message::length(&head).unwrap(), 0);
    stream.read_exact(&mut bytes[16..]).unwrap();
    bytes
}

/// The outcome of a call, with these answers to `Hello` and to it.
fn call(answers: Vec<Vec<u8>>) -> crate::Result<Value> {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bus");
    let _bus = bus(&at, answers);
    let mut bus = Bus::at(&Address::Path(at), LIMIT)?.unwrap();
    bus.call(&OBJECT, "Do", &["a", "b"])
}

fn hello() -> Vec<u8> {
    answer(2, 1, None, "s", &text(":1.5"))
}

#[test]
fn answers_are_values_and_signals_are_skipped() {
    let signal = answer(4, 2, None, "s", &text("x"));
    let value = |signature: &str, body: &[u8]| {
        call(vec![hello(), [signal.clone(), answer(2, 2, None, signature, body)].concat()]).unwrap()
    };
    assert_eq!(value("", &[]), Value::Nothing);
    assert_eq!(value("s", &text("trusted")), Value::Text("trusted".into()));
    assert_eq!(value("b", &1_u32.to_le_bytes()), Value::Truth(true));
    assert_eq!(value("u", &1_u32.to_le_bytes()), Value::Other);
    let mut list = text("10.1.2.3/32");
    list.resize(list.len().next_multiple_of(4), 0);
    list.append(&mut text("fd00::3/128"));
    let array = [u32::try_from(list.len()).unwrap().to_le_bytes().to_vec(), list].concat();
    assert_eq!(value("as", &array), Value::Texts(vec!["10.1.2.3/32".into(), "fd00::3/128".into()]));
}

#[test]
fn an_error_has_its_name_and_text() {
    let failed = answer(3, 2, Some("org.example.Error"), "s", &text("CODE: words\nmore"));
    let error = call(vec![hello(), failed]).unwrap_err();
    assert_eq!(error.to_string(), "org.example.Error: CODE: words more");
}

#[test]
fn silence_ends_within_the_limit_and_names_who_is_silent() {
    for (answers, whom) in [(vec![], "org.freedesktop.DBus"), (vec![hello()], "org.example.It")] {
        let began = Instant::now();
        let error = call(answers).unwrap_err();
        assert!(matches!(&error, Error::Silent { whom: silent, .. } if silent == whom), "{error}");
        assert!(began.elapsed() < LIMIT * 5);
    }
}

/// One byte now and then does not extend the time limit, nor does a flood of signals.
#[test]
fn an_answer_in_drops_does_not_extend_the_limit() {
    for drop in [vec![0_u8], answer(4, 9, None, "", &[])] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("bus");
        let listener = UnixListener::bind(&at).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"OK 00\r\n");
            while stream.write_all(&drop).is_ok() {
                thread::sleep(Duration::from_millis(1));
            }
        });
        let began = Instant::now();
        assert!(Bus::at(&Address::Path(at), LIMIT).is_err());
        assert!(began.elapsed() < LIMIT * 5);
    }
}

#[test]
fn garbage_is_a_fault_and_takes_no_memory() {
    let mut huge = hello();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut fields = hello();
    fields[12..16].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let mut version = hello();
    version[3] = 9;
    for (bytes, fault) in [
        (vec![b'x'; 64], Fault::Header),
        (version, Fault::Header),
        (huge, Fault::Long),
        (fields, Fault::Long),
        (answer(2, 1, None, "s", &u32::MAX.to_le_bytes()), Fault::Short),
        (answer(2, 1, None, "s", &[1, 0, 0, 0, 0xff, 0]), Fault::Text),
        (answer(2, 1, None, "b", &[2, 0, 0, 0]), Fault::Boolean),
    ] {
        let error = call(vec![bytes]).unwrap_err();
        assert!(matches!(error, Error::Malformed(known) if known == fault), "{error:?}");
    }
}

#[test]
fn a_bus_that_refuses_or_ends_is_an_error_and_none_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("bus");
    let try_it = || Bus::at(&Address::Path(at.clone()), LIMIT);
    assert!(try_it().unwrap().is_none());
    for (line, words) in
        [("REJECTED EXTERNAL\r\n", "refused this user"), ("", "receive from"), (&"x".repeat(2000), "not end")]
    {
        let listener = UnixListener::bind(&at).unwrap();
        let line = line.to_owned();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 64];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(line.as_bytes());
        });
        let error = try_it().unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        server.join().unwrap();
        // Its file is left, and nobody listens.
        assert!(try_it().unwrap().is_none());
        std::fs::remove_file(&at).unwrap();
    }
}

#[test]
fn what_is_sent_is_read_back() {
    let bytes = message::call(3, &OBJECT, "Do", &["a", "bc"]);
    assert_eq!(message::length(bytes.first_chunk().unwrap()), Ok(bytes.len()));
    assert_eq!(message::read(&bytes), Ok(Message::Other));
}

/// Another order of bytes is the sender's choice.
#[test]
fn a_big_endian_answer_is_read() {
    let mut bytes = vec![b'B', 2, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0, 15];
    bytes.extend([5, 1, b'u', 0, 0, 0, 0, 6, 8, 1, b'g', 0, 1, b'b', 0, 0, 0, 0, 0, 1]);
    assert_eq!(message::read(&bytes), Ok(Message::Returned(6, Value::Truth(true))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_a_fault(
        at in any::<prop::sample::Index>(), with in any::<[u8; 4]>(), cut in any::<prop::sample::Index>()
    ) {
        let mut bytes = answer(2, 6, Some("a.b"), "as", &[[8, 0, 0, 0, 3, 0, 0, 0], *b"abc\0\0\0\0\0"].concat());
        let at = at.index(bytes.len() - 4);
        bytes[at..at + 4].copy_from_slice(&with);
        fuzz::message(&bytes);
        let _ = message::read(&bytes);
        fuzz::message(&bytes[..cut.index(bytes.len())]);
        let _ = message::read(&bytes[..cut.index(bytes.len())]);
    }
}
