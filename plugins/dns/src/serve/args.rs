//! The arguments of `serve`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// How long a responder without attachments keeps running.
const GRACE: Duration = Duration::from_secs(60);

/// Parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Args {
    /// The state directory (`--place`).
    pub(super) state_dir: PathBuf,
    /// How long to keep running without attachments.
    pub(super) grace: Duration,
    /// A descriptor that is written to once the responder is ready.
    pub(super) ready_fd: Option<u32>,
    /// Standard input is a socket over which the previous executable passes its
    /// descriptors.
    pub(super) inherit: bool,
}

impl Args {
    pub(super) fn read(arguments: &[OsString]) -> Result<Self, cni::Error> {
        let mut args = Self { state_dir: PathBuf::new(), grace: GRACE, ready_fd: None, inherit: false };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.to_str() {
                Some("--place") => args.state_dir = value(argument, rest.next())?.into(),
                Some("--grace") => args.grace = Duration::from_secs(number(argument, rest.next())?.into()),
                Some("--ready-fd") => args.ready_fd = Some(number(argument, rest.next())?),
                Some("--inherit") => args.inherit = true,
                _ => return Err(wrong(argument, "is not understood")),
            }
        }
        if args.state_dir.as_os_str().is_empty() {
            return Err(wrong(OsStr::new("--place"), "is missing"));
        }
        Ok(args)
    }
}

fn value<'a>(argument: &OsStr, value: Option<&'a OsString>) -> Result<&'a OsStr, cni::Error> {
    value.map(OsString::as_os_str).ok_or_else(|| wrong(argument, "needs a value"))
}

fn number(argument: &OsStr, text: Option<&OsString>) -> Result<u32, cni::Error> {
    let number = value(argument, text)?.to_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| wrong(argument, "needs a number"))
}

fn wrong(argument: &OsStr, what: &str) -> cni::Error {
    cni::Error::internal(format!("serve: {} {what}", argument.display()))
}
