//! The arguments of `serve`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

/// How long a block is wholly free before it is given back.
const FREE_FOR: Duration = Duration::from_secs(600);
/// The same in seconds, for tests, where no argument can be given.
const FREE_FOR_VARIABLE: &str = "MOOR_OVERLAY_FREE_FOR";

/// Parsed arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// `/etc/moor/cluster.json`, or the file of `overlay`'s key `cluster`.
    pub settings: PathBuf,
    /// The directory of the state that stays.
    pub state: PathBuf,
    /// The directory of the network namespace; found by itself if absent.
    pub run: Option<PathBuf>,
    /// A descriptor that is written to once the agent is ready.
    pub ready_fd: Option<u32>,
    /// How long to keep running without attachments; for ever if absent.
    pub grace: Option<Duration>,
    /// See [`FREE_FOR`].
    pub free_for: Duration,
    /// The lock and the control socket come from a previous executable.
    pub inherit: bool,
}

impl Args {
    pub(super) fn read(arguments: &[OsString]) -> Result<Self, String> {
        let free_for = std::env::var(FREE_FOR_VARIABLE).ok().and_then(|text| text.parse().ok());
        let mut args = Self {
            settings: cluster::local::SETTINGS.into(),
            state: cluster::local::STATE.into(),
            run: None,
            ready_fd: None,
            grace: None,
            free_for: free_for.map_or(FREE_FOR, Duration::from_secs),
            inherit: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| wrong(argument, "needs a value"));
            match argument.to_str() {
                Some("--settings") => args.settings = value()?.into(),
                Some("--state") => args.state = value()?.into(),
                Some("--run") => args.run = Some(value()?.into()),
                Some("--ready-fd") => args.ready_fd = Some(number(argument, value()?)?),
                Some("--grace") => args.grace = Some(Duration::from_secs(number(argument, value()?)?.into())),
                Some("--free-for") => args.free_for = Duration::from_secs(number(argument, value()?)?.into()),
                Some("--inherit") => args.inherit = true,
                _ => return Err(wrong(argument, "is not understood")),
            }
        }
        Ok(args)
    }
}

fn number(argument: &OsStr, text: &OsStr) -> Result<u32, String> {
    text.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(argument, "needs a number"))
}

fn wrong(argument: &OsStr, what: &str) -> String {
    format!("serve: {} {what}", argument.display())
}
