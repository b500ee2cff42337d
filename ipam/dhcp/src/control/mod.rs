//! The daemon's socket: requests of plugins to the daemon.
//!
//! A stream socket, as systemd's unit for the reference's daemon makes it. A request and its response
//! are one line of JSON each, of at most [`LINE_MAX`] bytes. The daemon accepts its own user and root
//! only (SO_PEERCRED), and closes a connection that sends anything but requests.

pub mod client;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The protocol version. Each side accepts any version as long as it understands the line.
pub const PROTOCOL: u32 = 1;
/// The longest line, in bytes.
pub const LINE_MAX: usize = 4096;
/// The beginning of a request of the reference's plugin (net/rpc of Go, over HTTP).
pub const REFERENCE_REQUEST: &[u8] = b"CONNECT ";
/// The beginning of an answer of the reference's daemon.
pub const REFERENCE_RESPONSE: &[u8] = b"HTTP/";
/// What the daemon sends to the reference's plugin, which prints the status.
pub const TO_REFERENCE: &[u8] =
    b"HTTP/1.0 501 this is the daemon of Moor, which needs the dhcp plugin of Moor\r\n\r\n";

/// What is asked of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Names itself and its limits.
    Hello,
    /// Reads a record again.
    Sync,
    /// Exits if it was started on demand: a newer release takes over.
    Retire,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// What is asked.
    pub ask: Verb,
    /// The name of a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResponse {
    /// The daemon's [`PROTOCOL`].
    pub protocol: u32,
    /// Its release.
    pub build: String,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// Its limits.
    pub limits: Limits,
    /// Why the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The limits that the daemon's flags set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The longest pause between two messages of ADD, in milliseconds (`-timeout`).
    pub timeout: u64,
    /// The longest pause between two messages of the daemon, in milliseconds (`-resendmax`).
    pub resend_max: u64,
    /// How long ADD waits for an address, in milliseconds (`-resendtimeout`).
    pub resend_timeout: u64,
    /// Whether replies shall be broadcast (`-broadcast`).
    pub broadcast: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: 10_000, resend_max: 62_000, resend_timeout: 208_000, broadcast: false }
    }
}

impl Limits {
    /// The longest pause between two messages of ADD.
    pub fn pause(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }

    /// How long ADD may wait for an address.
    pub fn whole(&self) -> Duration {
        Duration::from_millis(self.resend_timeout)
    }
}

/// A message as a line.
pub fn line(message: &impl Serialize) -> Vec<u8> {
    // Strings and numbers always serialize.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases exchange these lines: a change is a new protocol version.
    #[test]
    fn lines_keep_their_format() {
        let request = ControlRequest { ask: Verb::Sync, lease: Some("a.lease".into()) };
        assert_eq!(line(&request), b"{\"ask\":\"sync\",\"lease\":\"a.lease\"}\n");
        assert_eq!(line(&ControlRequest { ask: Verb::Hello, lease: None }), b"{\"ask\":\"hello\"}\n");
        let response = ControlResponse {
            protocol: 1,
            build: "1.2.3".into(),
            pid: 7,
            limits: Limits::default(),
            error: None,
        };
        assert_eq!(
            String::from_utf8(line(&response)).unwrap(),
            "{\"protocol\":1,\"build\":\"1.2.3\",\"pid\":7,\"limits\":{\"timeout\":10000,\"resend_max\":62000,\"resend_timeout\":208000,\"broadcast\":false}}\n"
        );
        for odd in ["", "{", "[]", "null", "{}", r#"{"ask":"stop"}"#, "CONNECT /_goRPC_ HTTP/1.0"] {
            assert!(serde_json::from_str::<ControlRequest>(odd).is_err(), "{odd}");
        }
    }
}
