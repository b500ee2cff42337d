use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

fn listening(path: &Path) -> UnixListener {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(socket.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&socket, Backlog::new(8).unwrap()).unwrap();
    socket.into()
}

/// An agent that gives these answers, one for each connection, and returns the requests.
fn agent(files: &Files, answers: Vec<Vec<u8>>) -> JoinHandle<Vec<Request>> {
    files.make().unwrap();
    let socket = listening(&files.control());
    std::thread::spawn(move || {
        let answer = |answer: Vec<u8>| {
            // Reads and writes of such a connection are packets.
            let (mut connection, _) = socket.accept().unwrap();
            let mut request = [0; PACKET_MAX];
            let length = connection.read(&mut request).unwrap();
            if !answer.is_empty() {
                connection.write_all(&answer).unwrap();
            }
            serde_json::from_slice(&request[..length]).unwrap()
        };
        answers.into_iter().map(answer).collect()
    })
}

fn answer(build: &str) -> Answer {
    Answer {
        protocol: 1,
        build: build.into(),
        pid: 7,
        outcome: Outcome::Done,
        why: None,
        code: None,
        net: None,
        differences: Vec::new(),
        status: None,
    }
}

fn packet(build: &str) -> Vec<u8> {
    serde_json::to_vec(&answer(build)).unwrap()
}

struct Place {
    _dir: tempfile::TempDir,
    files: Files,
    settings: PathBuf,
    bin: String,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::at(dir.path().join("state"), dir.path().join("run"));
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let settings = dir.path().join("cluster.json");
        Self { files, settings, bin: bin.to_str().unwrap().into(), _dir: dir }
    }

    fn client(&self) -> Client<'_> {
        Client { files: &self.files, settings: &self.settings, cni_path: &self.bin }
    }

    fn install(&self, script: &str) {
        let path = Path::new(&self.bin).join(PROGRAM);
        fs::write(&path, script).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_request_gets_its_response() {
    let place = Place::new();
    let agent = agent(&place.files, vec![packet(cni::RELEASE)]);
    let sync = Request::Sync { network: "front".into(), wait: true };
    let response = place.client().ask_or_start(&sync, TIMEOUT).unwrap();
    assert_eq!(accepted(response).unwrap(), answer(cni::RELEASE));
    assert_eq!(agent.join().unwrap(), [sync]);
}

#[test]
fn an_older_agent_executes_the_newer_one_after_its_response() {
    let place = Place::new();
    place.install("");
    let agent = agent(&place.files, vec![packet("0.0.1"), packet("0.0.1")]);
    place.client().ask(&Request::Hello, TIMEOUT).unwrap();
    let path = format!("{}/{PROGRAM}", place.bin);
    assert_eq!(agent.join().unwrap(), [Request::Hello, Request::Reexec { path }]);
}

#[test]
fn a_silent_agent_is_waited_for_as_long_as_was_said() {
    let place = Place::new();
    place.files.make().unwrap();
    let _socket = listening(&place.files.control());
    let began = Instant::now();
    let error = place.client().ask(&Request::Hello, Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, AskError::Silent(None, _)), "{error}");
    assert!(error.to_string().contains("200 ms"), "{error}");
    assert!((200..900).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let error = error.into_cni();
    assert_eq!(error.code, 11);
}

#[test]
fn a_dead_agents_socket_is_no_agent() {
    let place = Place::new();
    let ask = || place.client().ask(&Request::Hello, TIMEOUT).unwrap_err();
    assert!(matches!(ask(), AskError::Absent));
    place.files.make().unwrap();
    drop(listening(&place.files.control()));
    assert!(matches!(ask(), AskError::Absent));
    fs::remove_file(place.files.control()).unwrap();
    let gone = agent(&place.files, vec![Vec::new()]);
    assert!(matches!(ask(), AskError::Gone));
    gone.join().unwrap();
}

#[test]
fn an_answer_that_is_none_is_refused() {
    let place = Place::new();
    let agent = agent(&place.files, vec![b"{}".to_vec()]);
    let error = place.client().ask(&Request::Hello, TIMEOUT).unwrap_err();
    assert!(matches!(error, AskError::Malformed(_)), "{error}");
    agent.join().unwrap();
    let long = Request::Reexec { path: "x".repeat(PACKET_MAX) };
    assert!(matches!(place.client().ask(&long, TIMEOUT), Err(AskError::TooLong)));
}

#[test]
fn an_agent_that_cannot_run_gives_its_reason() {
    let place = Place::new();
    let missing = place.client().ask_or_start(&Request::Hello, TIMEOUT).unwrap_err();
    assert!(missing.code == 11 && missing.msg.contains(&place.bin), "{}", missing.msg);
    place.install("#!/bin/sh\necho no luck\n");
    let failed = place.client().ask_or_start(&Request::Hello, TIMEOUT).unwrap_err();
    assert!(failed.code == 11 && failed.msg.contains("no luck"), "{}", failed.msg);
}

#[test]
fn a_failed_request_has_the_agents_code_and_words() {
    let failed = |code| Answer { outcome: Outcome::Failed, why: Some("no".into()), code, ..answer("1") };
    assert_eq!(accepted(failed(Some(7))).unwrap_err(), Error::invalid_config("no"));
    assert_eq!(accepted(failed(None)).unwrap_err().code, 11);
    assert!(accepted(Answer { outcome: Outcome::Queued, ..answer("1") }).is_ok());
}
