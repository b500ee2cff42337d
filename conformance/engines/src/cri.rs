//! The Container Runtime Interface as a kubelet uses it: gRPC over HTTP/2 on containerd's socket.
//! curl sends it; the few messages are encoded by hand (runtime.v1 of k8s.io/cri-api, api.proto).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use harness::room::SCRATCH;

/// containerd's socket.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// A message under construction: tag, then value, in the encoding of protocol buffers.
#[derive(Default)]
pub struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or_default());
    }

    /// Adds a number.
    pub fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    /// Adds a string.
    pub fn text(self, field: u64, text: &str) -> Self {
        self.message(field, &Self(text.as_bytes().to_vec()))
    }

    /// Adds a message.
    pub fn message(mut self, field: u64, inner: &Message) -> Self {
        self.varint(field << 3 | 2);
        self.varint(inner.0.len() as u64);
        self.0.extend_from_slice(&inner.0);
        self
    }
}

/// The bytes of a length-delimited field; the first of that number.
pub fn field(mut bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => drop(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                if tag >> 3 == wanted {
                    return Some(value);
                }
                bytes = rest;
            }
            _ => return None,
        }
    }
    None
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Calls a method of the runtime service and returns the message of the answer.
pub fn call(method: &str, message: &Message) -> Result<Vec<u8>> {
    let path = |name: &str| format!("{SCRATCH}/cri-{name}");
    let length = u32::try_from(message.0.len())?.to_be_bytes();
    fs::write(path("request"), [&[0][..], &length, &message.0].concat())?;
    fs::write(path("answer"), "")?;
    let done = Command::new("curl")
        .args(["-sS", "-m", "60", "--http2-prior-knowledge", "--unix-socket", SOCKET])
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .args(["--data-binary", &format!("@{}", path("request")), "-D", &path("headers")])
        .args(["-o", &path("answer"), &format!("http://localhost/runtime.v1.RuntimeService/{method}")])
        .output()
        .context("start curl")?;
    ensure!(done.status.success(), "{method}: {}", String::from_utf8_lossy(&done.stderr).trim());
    let headers = fs::read_to_string(path("headers"))?;
    let header = |name: &str| headers.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match header("grpc-status:") {
        Some("0") => {}
        status => bail!("{method}: gRPC status {status:?}: {}", header("grpc-message:").unwrap_or_default()),
    }
    let answer = fs::read(path("answer"))?;
    Ok(answer.get(5..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let inner = Message::default().text(1, "10.1.2.3");
        let long = "x".repeat(300);
        let message = Message::default().number(4, 8080).text(2, &long).message(5, &inner);
        assert_eq!(field(&message.0, 2), Some(long.as_bytes()));
        assert_eq!(field(&message.0, 5).and_then(|inner| field(inner, 1)), Some(&b"10.1.2.3"[..]));
        assert_eq!(field(&message.0, 6), None);
        assert_eq!(field(&message.0[..message.0.len() - 1], 5), None, "cut off");
    }
}
