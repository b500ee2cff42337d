//! What an answer other than 200, or none, means.

use std::error::Error as _;
use std::io;

use super::error::{Attempt, Error, Refusal};
use super::response::{self, Refused};

/// Codes of gRPC, from its specification.
mod code {
    pub const UNKNOWN: i64 = 2;
    pub const INVALID_ARGUMENT: i64 = 3;
    pub const DEADLINE_EXCEEDED: i64 = 4;
    pub const NOT_FOUND: i64 = 5;
    pub const PERMISSION_DENIED: i64 = 7;
    pub const RESOURCE_EXHAUSTED: i64 = 8;
    pub const OUT_OF_RANGE: i64 = 11;
    pub const UNAVAILABLE: i64 = 14;
    pub const UNAUTHENTICATED: i64 = 16;
}

/// A connection that brought no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The member cannot have done what was asked.
    NotSent(String),
    /// It may have.
    Silent(String),
    /// It was closed in the middle.
    Closed(String),
    /// TLS refused, on either side.
    Refused(Refusal, String),
}

/// What an answer with an error in it means. The token is at fault if it is `None`.
pub(super) fn of_answer(member: &str, status: u16, body: &[u8]) -> Option<Error> {
    let refused = response::parse::<Refused>(body).unwrap_or_default();
    let message = message(body);
    of_code(member, i64::from(status), refused.code, &message)
}

/// etcd's words in an answer, or all of it.
pub(super) fn message(body: &[u8]) -> String {
    let refused = response::parse::<Refused>(body).unwrap_or_default();
    let message = if refused.message.is_empty() { refused.error } else { refused.message };
    if message.is_empty() { String::from_utf8_lossy(body).into_owned() } else { message }
}

/// As [`of_answer`], of a status of HTTP and a code of gRPC.
pub(super) fn of_code(member: &str, status: i64, number: i64, message: &str) -> Option<Error> {
    let why = format!("{} (status {status}, code {number})", response::shown(message));
    let attempt = Attempt { member: member.to_owned(), why };
    let says = |words: &str| message.contains(words);
    Some(match (status, number) {
        // Of the gateway's connection to its own server, which refuses the certificate.
        (_, code::UNAVAILABLE) if says("client preface") || says("bad certificate") => {
            Error::Refused(Refusal::ServerAsClient, attempt)
        }
        _ if says("CommonName") => Error::Refused(Refusal::CommonName, attempt),
        (_, code::INVALID_ARGUMENT) if says("auth store is old") => return None,
        (_, code::UNAUTHENTICATED) | (401, _) => return None,
        (_, code::INVALID_ARGUMENT) if says("user name is empty") => return None,
        (_, code::INVALID_ARGUMENT) if says("authentication failed") => {
            Error::Refused(Refusal::Credentials, attempt)
        }
        (_, code::INVALID_ARGUMENT) if says("too many operations") => {
            Error::TooManyOperations(super::OPERATIONS_MAX + 1)
        }
        (_, code::PERMISSION_DENIED) | (403, _) => Error::Refused(Refusal::Permission, attempt),
        (_, code::RESOURCE_EXHAUSTED) | (429, _) => Error::Full(attempt),
        (_, code::OUT_OF_RANGE) if says("compacted") => Error::Compacted,
        (_, code::NOT_FOUND) if says("lease not found") => Error::UnknownLease,
        (_, code::UNAVAILABLE | code::UNKNOWN | code::DEADLINE_EXCEEDED) | (502..=504, _) => {
            Error::NoQuorum(attempt)
        }
        _ => Error::Other(attempt),
    })
}

/// What an error of the connection means.
pub(super) fn of_connection(error: &ureq::Error) -> Broken {
    use ureq::{Error as E, Timeout};
    let words = error.to_string();
    match error {
        E::Timeout(Timeout::Connect | Timeout::Resolve) => Broken::NotSent("it is silent".into()),
        E::Timeout(_) => Broken::Silent("it is silent".into()),
        E::HostNotFound | E::BadUri(_) | E::ConnectionFailed | E::Tls(_) => Broken::NotSent(words),
        E::Io(error) => of_io(error),
        _ => Broken::Silent(words),
    }
}

fn of_io(error: &io::Error) -> Broken {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = inner.or_else(|| error.source().and_then(|source| source.downcast_ref())) {
        return of_tls(tls);
    }
    use io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused | K::HostUnreachable | K::NetworkUnreachable | K::AddrNotAvailable => {
            Broken::NotSent(words(error))
        }
        K::ConnectionReset | K::UnexpectedEof | K::BrokenPipe | K::ConnectionAborted | K::NotConnected => {
            Broken::Closed(words(error))
        }
        K::TimedOut | K::WouldBlock => Broken::Silent("it is silent".into()),
        _ if error.raw_os_error().is_none() && error.to_string().contains("lookup") => {
            Broken::NotSent(words(error))
        }
        _ => Broken::Silent(words(error)),
    }
}

fn of_tls(error: &rustls::Error) -> Broken {
    use rustls::{AlertDescription as A, Error as E};
    let words = error.to_string();
    match error {
        E::InvalidCertificate(_) | E::NoCertificatesPresented => {
            Broken::Refused(Refusal::ServerCertificate, words)
        }
        E::AlertReceived(
            A::BadCertificate
            | A::CertificateExpired
            | A::CertificateRequired
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::DecryptError
            | A::UnknownCA
            | A::UnsupportedCertificate
            | A::AccessDenied,
        ) => Broken::Refused(Refusal::ClientCertificate, words),
        _ => Broken::NotSent(words),
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".into(),
        _ => response::shown(&error.to_string()),
    }
}
