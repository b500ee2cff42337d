//! An exchange from begin to end, as ADD needs it: it waits, but not past its deadline.

use std::time::{Duration, Instant};
use std::{error, fmt};

use sys::{clock, wait};

use crate::client::Event;
use crate::exchange::{Exchange, Received};
use crate::terms::Terms;

/// Why there is no lease.
#[derive(Debug)]
pub enum Failure {
    /// No server granted an address in time; the last answer that could not be used.
    NoMoreTries {
        /// Of this protocol.
        protocol: &'static str,
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
            Self::NoMoreTries { protocol, after, complaint } => {
                let seconds = after.as_secs();
                write!(f, "no more tries: no {protocol} server granted an address within {seconds} s")?;
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
    exchange: &mut Exchange,
    patience: Duration,
    mut offered: impl FnMut(&Terms) -> sys::Result<()>,
) -> Result<(Terms, Duration), Failure> {
    let kernel = |cause| Failure::Kernel(sys::Error::new("exchange DHCP messages on", "the link", cause));
    let deadline = Instant::now() + patience;
    loop {
        let now = self::now().map_err(Failure::Kernel)?;
        if Instant::now() >= deadline {
            let complaint = exchange.complaint().map(str::to_owned);
            let protocol = if matches!(exchange, Exchange::V4(..)) { "DHCP" } else { "DHCPv6" };
            return Err(Failure::NoMoreTries { protocol, after: patience, complaint });
        }
        if now >= exchange.due() {
            exchange.send(now).map_err(kernel)?;
        }
        let until = Instant::now() + exchange.due().saturating_sub(now);
        if !wait::readable(exchange, until.min(deadline)).map_err(kernel)? {
            continue;
        }
        let now = self::now().map_err(Failure::Kernel)?;
        match exchange.receive(now).map_err(kernel)? {
            Received::Event(Event::Offered(offer)) => offered(&offer).map_err(Failure::Kernel)?,
            Received::Event(Event::Granted(terms, since)) => return Ok((*terms, since)),
            Received::Event(Event::Refused(_)) | Received::Unrelated | Received::Nothing => {}
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
