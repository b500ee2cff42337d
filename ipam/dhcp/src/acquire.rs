//! An exchange from begin to end, as ADD needs it: it waits, but not past its deadline.

use std::time::{Duration, Instant};
use std::{error, fmt};

use sys::{clock, wait};

use crate::client::{Client, Event};
use crate::grant::Grant;
use crate::wire::{FRAME_MAX, Wire};

/// Why there is no lease.
#[derive(Debug)]
pub enum Failure {
    /// No server granted an address in time; the last answer that could not be used.
    NoMoreTries {
        /// How long it waited.
        after: Duration,
        /// The last answer that could not be used.
        complaint: Option<String>,
    },
    /// The kernel refused, or the record could not be written.
    Kernel(sys::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMoreTries { after, complaint } => {
                write!(f, "no more tries: no DHCP server granted an address within {} s", after.as_secs())?;
                complaint.as_ref().map_or(Ok(()), |complaint| write!(f, " ({complaint})"))
            }
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl error::Error for Failure {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Kernel(error) => error.source(),
            Self::NoMoreTries { .. } => None,
        }
    }
}

/// Exchanges messages until an address is granted; returns since when it is. `offered` is called
/// before an offered address is asked for.
///
/// # Errors
/// See [`Failure`].
pub fn acquire(
    wire: &Wire,
    client: &mut Client,
    patience: Duration,
    mut offered: impl FnMut(&Grant) -> sys::Result<()>,
) -> Result<(Grant, Duration), Failure> {
    let kernel = |cause| Failure::Kernel(sys::Error::new("exchange DHCP messages on", "the link", cause));
    let deadline = Instant::now() + patience;
    let mut frame = [0; FRAME_MAX];
    loop {
        let now = now().map_err(Failure::Kernel)?;
        if Instant::now() >= deadline {
            let complaint = client.complaint().map(str::to_owned);
            return Err(Failure::NoMoreTries { after: patience, complaint });
        }
        if now >= client.due() {
            wire.send(&client.transmit(now)).map_err(kernel)?;
        }
        let until = Instant::now() + client.due().saturating_sub(now);
        if !wait::readable(wire, until.min(deadline)).map_err(kernel)? {
            continue;
        }
        let Some(length) = wire.receive(&mut frame).map_err(kernel)? else { continue };
        match client.receive(frame.get(..length).unwrap_or_default(), now) {
            Some(Event::Offered(offer)) => offered(&offer).map_err(Failure::Kernel)?,
            Some(Event::Granted(grant, since)) => return Ok((*grant, since)),
            Some(Event::Refused(_)) | None => {}
        }
    }
}

/// The time since boot.
///
/// # Errors
/// The kernel does not have this clock.
pub fn now() -> sys::Result<Duration> {
    clock::since_boot().map(Duration::from_nanos)
}
