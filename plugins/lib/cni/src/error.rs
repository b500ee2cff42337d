//! The error a plugin reports: one JSON object on standard output, exit status 1.

use std::io;

use nix::errno::Errno;

use crate::Version;
use crate::json::{Json, Style};

/// The codes of the specification's table (CNI spec 1.1.0, section "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The plugin does not support the configuration's version, or that version does not have this
    /// command.
    IncompatibleVersion = 1,
    /// A key is known but its value is not supported; the message holds both.
    UnsupportedField = 2,
    /// The container is not known.
    UnknownContainer = 3,
    /// An environment variable is missing or malformed.
    InvalidEnvironment = 4,
    /// Standard input or output failed.
    Io = 5,
    /// The input cannot be decoded: it is not JSON, or has no valid version.
    Decode = 6,
    /// The network configuration is invalid.
    InvalidConfig = 7,
    /// The network namespace is the plugin's own.
    InvalidNetNs = 8,
    /// A temporary condition; the runtime may try again.
    TryAgainLater = 11,
    /// STATUS: ADD cannot be served.
    NotAvailable = 50,
    /// STATUS: ADD cannot be served, and existing containers have limited connectivity.
    LimitedConnectivity = 51,
    /// Everything else.
    Internal = 999,
}

/// An error as the runtime reads it. `?` converts any `std::error::Error` into one with code 999,
/// or 11 when its errno is EAGAIN: the chain of causes is joined with ": ", and the name of the
/// errno in the chain goes into the details.
///
/// Does not implement `std::error::Error` itself, so that the blanket conversion can exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A code of the table, or a delegate's own.
    pub code: u32,
    /// One line for the person who reads the runtime's log: the operation, its object and the
    /// cause.
    pub msg: String,
    /// Further help; omitted when empty.
    pub details: String,
}

impl Error {
    /// An error with a code of the table.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code: code as u32, msg: msg.into(), details: String::new() }
    }

    /// Code 999.
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(Code::Internal, msg)
    }

    /// Code 7.
    pub fn invalid_config(msg: impl Into<String>) -> Self {
        Self::new(Code::InvalidConfig, msg)
    }

    /// The same error with these details.
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The JSON document. It has a version, which the specification requires and the reference
    /// omits (C-070).
    pub fn print(&self, version: Version) -> Vec<u8> {
        let mut members = vec![
            ("cniVersion".into(), Json::from(version.as_str())),
            ("code".into(), Json::from(u64::from(self.code))),
            ("msg".into(), Json::from(self.msg.as_str())),
        ];
        if !self.details.is_empty() {
            members.push(("details".into(), Json::from(self.details.as_str())));
        }
        Json::Object(members).print(Style::Indented)
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut msg = String::new();
        let mut errno = None;
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = next {
            errno = errno.or_else(|| errno_of(cause));
            let text = text_of(cause);
            if msg.is_empty() {
                msg = text;
            } else if !msg.contains(&text) {
                msg.push_str(": ");
                msg.push_str(&text);
            }
            next = cause.source();
        }
        let code = if errno == Some(Errno::EAGAIN) { Code::TryAgainLater } else { Code::Internal };
        let details = errno.map(|errno| format!("errno={errno:?}"));
        Self::new(code, msg).details(details.unwrap_or_default())
    }
}

fn errno_of(cause: &(dyn std::error::Error + 'static)) -> Option<Errno> {
    match cause.downcast_ref::<io::Error>() {
        Some(error) => error.raw_os_error().map(Errno::from_raw),
        None => cause.downcast_ref::<Errno>().copied(),
    }
}

/// The text of a cause, without the number that std adds to errors of the kernel: the details have
/// its name.
fn text_of(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut text = cause.to_string();
    let number = cause.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    if let Some(number) = number
        && let Some(bare) = text.strip_suffix(&format!(" (os error {number})"))
    {
        text.truncate(bare.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Step(&'static str, Option<Box<dyn std::error::Error + Send + Sync>>);

    impl fmt::Display for Step {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Step {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    /// C-071: any plain error is 999.
    #[test]
    fn an_error_joins_its_causes_and_names_the_errno() {
        let cause =
            || Some(Box::new(io::Error::from_raw_os_error(17)) as Box<dyn std::error::Error + Send + Sync>);
        let error = Error::from(Step("create veth a", cause()));
        assert_eq!(error.code, 999);
        assert_eq!(error.msg, "create veth a: File exists");
        assert_eq!(error.details, "errno=EEXIST");
        let error = Error::from(Step("create veth a: File exists, sorry", cause()));
        assert_eq!(error.msg, "create veth a: File exists, sorry");
        let error = Error::from(Step("outer", Some(Box::new(Step("inner", None)))));
        assert_eq!((error.msg.as_str(), error.details.as_str()), ("outer: inner", ""));
    }

    #[test]
    fn errno_is_found_at_any_depth() {
        assert_eq!(Error::from(Errno::EBUSY).details, "errno=EBUSY");
        assert_eq!(Error::from(io::Error::from_raw_os_error(13)).details, "errno=EACCES");
        let wrapped = io::Error::other(Step("read", Some(Box::new(io::Error::from_raw_os_error(5)))));
        assert_eq!(Error::from(wrapped).details, "errno=EIO");
        assert_eq!(Error::from(io::Error::other("odd")).details, "");
    }

    #[test]
    fn eagain_becomes_try_again_later() {
        let busy = || io::Error::from_raw_os_error(11);
        assert_eq!(Error::from(busy()).code, 11);
        assert_eq!(Error::from(io::Error::other(Step("lock x", Some(Box::new(busy()))))).code, 11);
    }
}
