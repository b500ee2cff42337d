//! The flags of `daemon`: the reference's, written as Go's package flag reads them, and our own.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::SOCKET;
use crate::control::Limits;

/// Parsed flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The socket, as plugins name it.
    pub socket: PathBuf,
    /// What is put before the path of the socket, of the records, and of every namespace.
    pub host_prefix: String,
    /// A file for the process id.
    pub pid_file: Option<PathBuf>,
    /// Limits for plugins and for the daemon.
    pub limits: Limits,
    /// How long to keep running without leases; `None` is forever.
    pub idle: Option<Duration>,
    /// A descriptor that is written to once plugins are answered.
    pub ready_fd: Option<u32>,
}

impl Args {
    /// Reads the flags.
    ///
    /// # Errors
    /// One is not understood.
    pub fn read(arguments: &[OsString]) -> Result<Self, cni::Error> {
        let mut args = Self {
            socket: SOCKET.into(),
            host_prefix: String::new(),
            pid_file: None,
            limits: Limits::default(),
            idle: None,
            ready_fd: None,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let text = argument.to_str().unwrap_or_default();
            let flag = text.strip_prefix("--").or_else(|| text.strip_prefix('-'));
            let Some(flag) = flag else { return Err(wrong(text, "is not understood")) };
            let (name, given) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            if name == "broadcast" {
                args.limits.broadcast = boolean(given.unwrap_or("true")).ok_or_else(|| bad(text))?;
                continue;
            }
            let mut value = || match given {
                Some(value) => Ok(value),
                None => {
                    rest.next().and_then(|value| value.to_str()).ok_or_else(|| wrong(text, "needs a value"))
                }
            };
            let duration = |value: &str| milliseconds(value).filter(|ms| *ms > 0).ok_or_else(|| bad(text));
            match name {
                "socketpath" => args.socket = value()?.into(),
                "hostprefix" => args.host_prefix = value()?.to_owned(),
                "pidfile" => args.pid_file = Some(value()?.into()),
                "timeout" => args.limits.timeout = duration(value()?)?,
                "resendmax" => args.limits.resend_max = duration(value()?)?,
                "resendtimeout" => args.limits.resend_timeout = duration(value()?)?,
                "idle" => {
                    let seconds = value()?.parse().map_err(|_| bad(text))?;
                    args.idle = Some(Duration::from_secs(seconds));
                }
                "ready-fd" => args.ready_fd = Some(value()?.parse().map_err(|_| bad(text))?),
                _ => return Err(wrong(text, "is not understood")),
            }
        }
        if !args.socket.is_absolute() {
            return Err(wrong("-socketpath", "needs an absolute path"));
        }
        if args.pid_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(wrong("-pidfile", "needs an absolute path"));
        }
        Ok(args)
    }

    /// A path of the host, as this process reaches it.
    pub fn reached(&self, path: &std::path::Path) -> PathBuf {
        PathBuf::from(format!("{}{}", self.host_prefix, path.display()))
    }
}

fn wrong(argument: &str, what: &str) -> cni::Error {
    cni::Error::internal(format!("daemon: {argument} {what}"))
}

fn bad(argument: &str) -> cni::Error {
    wrong(argument, "has a value that is not understood")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as Go writes it (`1m30s`, `208s`, `1.5h`), in milliseconds.
fn milliseconds(mut text: &str) -> Option<u64> {
    let mut sum = 0.0;
    if text.is_empty() {
        return None;
    }
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = text[..end].parse().ok()?;
        text = &text[end..];
        let unit = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let scale = match &text[..unit] {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        sum += number * scale;
        text = &text[unit..];
    }
    Duration::try_from_secs_f64(sum / 1000.0).ok().and_then(|sum| u64::try_from(sum.as_millis()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Args, cni::Error> {
        Args::read(&arguments.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_references_flags_are_read_in_every_form() {
        let args = read(&[
            "-hostprefix=/host",
            "--socketpath",
            "/run/x.sock",
            "-broadcast",
            "-timeout",
            "1m30s",
            "-resendmax=62s",
            "--resendtimeout=1.5h",
            "-pidfile",
            "/run/x.pid",
        ])
        .unwrap();
        assert_eq!(args.reached(&args.socket), PathBuf::from("/host/run/x.sock"));
        let limits =
            Limits { timeout: 90_000, resend_max: 62_000, resend_timeout: 5_400_000, broadcast: true };
        assert_eq!((args.limits, args.idle, args.ready_fd), (limits, None, None));
        assert!(!read(&["-broadcast=false"]).unwrap().limits.broadcast);
        assert_eq!(read(&[]).unwrap().socket, PathBuf::from(SOCKET));
    }

    #[test]
    fn odd_flags_are_refused() {
        for odd in [
            &["-odd"][..],
            &["odd"],
            &["-timeout"],
            &["-timeout", "10"],
            &["-timeout", "0s"],
            &["-timeout", "1e300h"],
            &["-timeout", "9999999999999999999999s"],
            &["-pidfile", "x"],
            &["-socketpath", "x"],
            &["-broadcast=x"],
        ] {
            assert!(read(odd).is_err(), "{odd:?}");
        }
    }
}
