//! The agent of this network namespace. Nobody is started to be asked.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use cluster::control::{Answer, PACKET_MAX, Request, Status};
use dns::control::client::{self, Error};

/// What the agent says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Asked {
    /// There is none.
    #[default]
    Absent,
    /// It did not answer: why.
    Silent(String),
    /// Its state.
    Answered(Box<Status>),
}

/// Asks the agent for its state, and waits a few seconds at most.
pub fn ask() -> Asked {
    super::place().map_or(Asked::Absent, |place| ask_at(&place.join("control.sock")))
}

fn ask_at(path: &Path) -> Asked {
    // A socket with time limits, which belongs to nobody in particular.
    let Ok(socket) = client::socket() else { return Asked::Absent };
    match client::connect_to(&socket, path) {
        Ok(()) => {}
        Err(Error::Absent | Error::Gone) => return Asked::Absent,
        Err(Error::Silent(_)) => return Asked::Silent("it takes no connection".into()),
        Err(error) => return Asked::Silent(error.to_string()),
    }
    match exchange(&mut UnixStream::from(socket)) {
        Ok(Some(status)) => Asked::Answered(Box::new(status)),
        Ok(None) => Asked::Silent("its answer cannot be read".into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Asked::Silent("no answer within a second".into())
        }
        Err(error) => Asked::Silent(error.to_string()),
    }
}

/// One packet each way: a socket of packets keeps them apart.
fn exchange(socket: &mut UnixStream) -> std::io::Result<Option<Status>> {
    socket.write_all(&serde_json::to_vec(&Request::Status)?)?;
    let mut packet = [0; PACKET_MAX];
    let length = socket.read(&mut packet)?;
    let answer = serde_json::from_slice::<Answer>(packet.get(..length).unwrap_or_default());
    Ok(answer.ok().and_then(|answer| answer.status))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use std::os::fd::AsRawFd;
    use std::thread;

    use cluster::control::{Outcome, PROTOCOL};

    use super::*;

    fn agent(path: &Path, answer: Option<Vec<u8>>) -> thread::JoinHandle<Vec<u8>> {
        let listener = std::os::unix::net::UnixListener::from(dns::control::at_path(path).unwrap());
        listener.set_nonblocking(false).unwrap();
        thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut packet = [0; PACKET_MAX];
            let length = peer.read(&mut packet).unwrap();
            match answer {
                Some(answer) => peer.write_all(&answer).unwrap(),
                // Until the other end gives up.
                None => drop(peer.read(&mut packet)),
            }
            assert!(peer.as_raw_fd() >= 0);
            packet[..length].to_vec()
        })
    }

    #[test]
    fn an_agent_is_asked_for_its_state_and_never_waited_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        assert_eq!(ask_at(&path), Asked::Absent);
        let status = Status { name: "node-a".into(), hosts: 3, ..Status::default() };
        let answer = Answer {
            protocol: PROTOCOL,
            build: "x".into(),
            pid: 1,
            outcome: Outcome::Done,
            why: None,
            code: None,
            net: None,
            differences: Vec::new(),
            status: Some(status.clone()),
        };
        let asked = agent(&path, Some(serde_json::to_vec(&answer).unwrap()));
        assert_eq!(ask_at(&path), Asked::Answered(Box::new(status)));
        assert_eq!(asked.join().unwrap(), br#"{"ask":"status"}"#);
        for odd in [b"junk".to_vec(), b"{}".to_vec()] {
            let asked = agent(&path, Some(odd));
            assert_eq!(ask_at(&path), Asked::Silent("its answer cannot be read".into()));
            asked.join().unwrap();
        }
        let asked = agent(&path, None);
        assert_eq!(ask_at(&path), Asked::Silent("no answer within a second".into()));
        asked.join().unwrap();
        assert_eq!(ask_at(&path), Asked::Absent, "nobody listens");
    }
}
