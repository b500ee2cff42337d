//! `detectConflict`: an address is used only when nobody else on the link has it.

use std::net::IpAddr;
use std::time::Duration;

use cni::{AddResult, Code, Error, Request};
use host::piece::{Claim, DetectionTime, Kernel, Making, Piece, Place};
use ipnetwork::IpNetwork;
use netlink::NotReady;
use serde::Deserialize;

use crate::{container, lease};

/// The keys as they are written. `null` and absent are the same.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    detect_conflict: Option<DetectConf>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DetectConf {
    timeout_ms: Option<i64>,
    attempts: Option<i64>,
}

/// How others are looked for who have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// How long they have for an answer.
    pub time: Duration,
    /// How many addresses are asked of the IPAM plugin before it is given up.
    pub attempts: i64,
}

/// Bounds of the two keys, and the attempts of who says nothing: one.
const TIMEOUT_MS: (i64, i64) = (1, 10_000);
const ATTEMPTS: (i64, i64) = (1, 10);

impl Detection {
    /// Reads and checks the key; `None` without it.
    ///
    /// # Errors
    /// Code 7 for a value out of its bounds, or when the time is missing; 999 for one of another type.
    pub fn of(request: &Request) -> Result<Option<Self>, Error> {
        let conf: Conf = request.config()?;
        let Some(conf) = conf.detect_conflict else { return Ok(None) };
        let invalid = |msg: String| Error::new(Code::InvalidConfig, msg);
        let within = |key: &str, value: i64, (least, most): (i64, i64)| match (least..=most).contains(&value)
        {
            true => Ok(value),
            false => Err(invalid(format!("invalid detectConflict.{key} {value}, must be [{least}, {most}]"))),
        };
        let time = conf.timeout_ms.ok_or_else(|| {
            invalid("detectConflict needs timeoutMs: how long others have for an answer".into())
        })?;
        let time = within("timeoutMs", time, TIMEOUT_MS)?;
        let attempts = within("attempts", conf.attempts.unwrap_or(1), ATTEMPTS)?;
        Ok(Some(Self { time: Duration::from_millis(time.unsigned_abs()), attempts }))
    }

    /// What must be so before the link is up. Pure.
    pub fn prepared(self, ifname: &str, own: &[IpNetwork]) -> Vec<Piece> {
        let mut pieces = vec![container::sysctls(ifname, own, true)];
        if own.iter().any(IpNetwork::is_ipv6) {
            pieces.push(container::without_start_delay(ifname));
            let time = Some(self.time);
            pieces.push(Piece::DetectionTime(DetectionTime { link: ifname.into(), time }));
        }
        pieces
    }

    /// The addresses, when packets pass; `arp` is the link by which ARP is sent and heard. Pure.
    pub fn claimed(self, ifname: &str, own: &[IpNetwork], arp: (Place, String)) -> Vec<Piece> {
        let link = ifname.to_owned();
        let claim = Claim { link: link.clone(), addresses: own.to_vec(), arp, time: self.time };
        let mut pieces = vec![Piece::Claim(claim)];
        if own.iter().any(IpNetwork::is_ipv6) {
            pieces.push(Piece::DetectionTime(DetectionTime { link, time: None }));
        }
        pieces
    }
}

/// The error of a failed attachment. Two pass, so the runtime may try again: that somebody else has an address, since
/// the IPAM plugin may then have another; that the kernel has not finished to look for duplicates.
pub fn to_cni_error(error: sys::Error) -> Error {
    let passes =
        matches!(error.reason(), Some(NotReady::DuplicateAddress { .. } | NotReady::TentativeAddress { .. }));
    let told = Error::from(error);
    if passes { Error { code: Code::TryAgainLater as u32, ..told } } else { told }
}

/// ADD with the addresses of an IPAM plugin. `links` are made first, since the plugin may look for the container's link,
/// or use it as DHCP does; then it is asked, and `finish` makes the rest. When somebody else has an address, everything is
/// taken back and another lease asked for, as often as `detection` allows; IPAM plugins that go round their range return
/// another address then. One that returns the same again is not asked a third time.
///
/// # Errors
/// The IPAM plugin's or that of a piece, the last one; links and lease are gone again.
pub fn with_lease(
    request: &Request,
    ipam: &str,
    detection: Option<Detection>,
    kernel: &mut Kernel,
    links: &[Piece],
    finish: impl Fn(&mut Making<'_>, AddResult) -> Result<AddResult, Error>,
) -> Result<AddResult, Error> {
    let mut attempts = detection.map_or(1, |detection| detection.attempts);
    let mut last: Option<(Vec<IpAddr>, Error)> = None;
    loop {
        let mut making = Making::begin(kernel, links).map_err(to_cni_error)?;
        let (result, before) = match (request.delegate_add(ipam), last.take()) {
            (Ok(result), before) => (result, before),
            // No other address is to be had, which matters less than why one is wanted.
            (Err(error), before) => return Err(before.map_or(error, |(_, error)| error)),
        };
        let own: Vec<IpAddr> = result.ips.iter().map(|ip| ip.address.ip()).collect();
        let again = before.filter(|(before, _)| *before == own);
        attempts = if again.is_some() { 0 } else { attempts - 1 };
        let error = match again {
            Some((_, error)) => error,
            None => match finish(&mut making, result) {
                Ok(result) => {
                    making.keep();
                    return Ok(result);
                }
                Err(error) => error,
            },
        };
        // The ADD's own error is the one to report.
        let _ = lease::release(request, Some(ipam), || {
            drop(making);
            Ok(())
        });
        if attempts == 0 || error.code != Code::TryAgainLater as u32 {
            return Err(error);
        }
        last = Some((own, error));
    }
}

/// ADD with addresses that are known already, or with none.
///
/// # Errors
/// That of a piece; nothing is left.
pub fn without_lease(
    kernel: &mut Kernel,
    links: &[Piece],
    result: AddResult,
    finish: impl Fn(&mut Making<'_>, AddResult) -> Result<AddResult, Error>,
) -> Result<AddResult, Error> {
    let mut making = Making::begin(kernel, links).map_err(to_cni_error)?;
    let result = finish(&mut making, result)?;
    making.keep();
    Ok(result)
}
