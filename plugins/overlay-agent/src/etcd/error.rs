//! Why etcd did not do what it was asked.

use std::path::PathBuf;
use std::{error, fmt};

/// A member that was tried in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its URL.
    pub member: String,
    /// What happened.
    pub why: String,
}

/// What etcd, or TLS, refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Name and password, or that there were none.
    Credentials,
    /// What the user may not read or write.
    Permission,
    /// A client certificate with a Common Name, while roles are on.
    CommonName,
    /// This host's certificate.
    ClientCertificate,
    /// The member's certificate, by this host.
    ServerCertificate,
    /// The gateway's own connection to its server: the member's certificate is not for clients.
    ServerAsClient,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// No member answered.
    Unreachable(Vec<Attempt>),
    /// A member answered that it has no leader, or did not agree with the others in time.
    NoQuorum(Attempt),
    /// This host is refused, or refuses.
    Refused(Refusal, Attempt),
    /// The database is full: only reads, deletions and keeping leases succeed.
    Full(Attempt),
    /// The lease has ended.
    UnknownLease,
    /// The revision is no longer kept.
    Compacted,
    /// More operations than a transaction may have.
    TooManyOperations(usize),
    /// More records under the prefix, or larger ones together, than this client reads.
    TooMuch(String),
    /// The answer is not what etcd answers.
    Malformed(Attempt),
    /// A file of the configuration is unusable.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Another error of etcd.
    Other(Attempt),
}

impl Error {
    /// Whether etcd is away: nobody answers, the members do not agree, or there is no space.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::NoQuorum(_) | Self::Full(_) | Self::Malformed(_))
    }

    /// Whether somebody has to change something first: there is no sense in trying again soon.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(..) | Self::File { .. } | Self::TooMuch(_))
    }
}

impl Refusal {
    /// What to do.
    fn advice(self) -> &'static str {
        match self {
            Self::Credentials => "check \"user\" and \"passwordFile\"",
            Self::Permission => "grant the user a role that reads and writes the prefix",
            Self::CommonName => {
                "with roles on, etcd takes JSON only with a client certificate without Common Name: issue one"
            }
            Self::ClientCertificate => {
                "check \"cert\" and \"key\": signed by the members' trusted authority, not expired, with the \
                 extended key usage clientAuth"
            }
            Self::ServerCertificate => {
                "check \"ca\", and that the member's certificate has its name or address"
            }
            Self::ServerAsClient => {
                "the member's certificate needs the extended key usage clientAuth beside serverAuth: its JSON \
                 gateway presents it to the member itself"
            }
        }
    }
}

impl Attempt {
    fn is_closed_to_itself(&self) -> bool {
        self.member.starts_with("https:") && self.why.contains("connection closed")
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.why)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("etcd: ")?;
        match self {
            Self::Unreachable(attempts) => {
                f.write_str("no member answered (")?;
                for (number, attempt) in attempts.iter().enumerate() {
                    write!(f, "{}{attempt}", if number > 0 { ", " } else { "" })?;
                }
                f.write_str(")")
            }
            // etcd says no more of its own connection, now in these words, now in clearer ones.
            Self::NoQuorum(attempt) if attempt.is_closed_to_itself() => write!(
                f,
                "a member's JSON gateway does not reach its own server; if this lasts, {} ({attempt})",
                Refusal::ServerAsClient.advice()
            ),
            Self::NoQuorum(attempt) => write!(f, "the members do not agree, or have no leader ({attempt})"),
            // What to do comes first: a long text is cut off for STATUS.
            Self::Refused(refusal, attempt) => write!(f, "refused: {} ({attempt})", refusal.advice()),
            Self::Full(attempt) => {
                write!(f, "no space ({attempt}): compact, defragment, then disarm the alarm")
            }
            Self::UnknownLease => f.write_str("the lease has ended"),
            Self::Compacted => f.write_str("the revision is no longer kept"),
            Self::TooManyOperations(count) => {
                write!(f, "{count} operations in a transaction, of {} at most", super::OPERATIONS_MAX)
            }
            Self::TooMuch(why) => f.write_str(why),
            Self::Malformed(attempt) => write!(f, "no answer of etcd ({attempt})"),
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Other(attempt) => write!(f, "{attempt}"),
        }
    }
}

impl error::Error for Error {}
