//! `detectConflict`: an address is used only if no other host on the link has it.

use std::net::IpAddr;
use std::time::Duration;

use cni::keys::{Key, Kind, key};
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

/// The key, and its values.
pub const KEYS: &[Key] = &[key("detectConflict", Kind::Object(DETECTION))];

const DETECTION: &[Key] = &[
    key("timeoutMs", Kind::Number(TIMEOUT_MS.0, TIMEOUT_MS.1.unsigned_abs())),
    key("attempts", Kind::Number(ATTEMPTS.0, ATTEMPTS.1.unsigned_abs())),
];

/// How duplicate addresses are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detection {
    /// How long to wait for a reply.
    pub time: Duration,
    /// How many addresses to request from the IPAM plugin before giving up.
    pub attempts: i64,
}

/// Bounds of the two keys, both included.
const TIMEOUT_MS: (i64, i64) = (1, 10_000);
const ATTEMPTS: (i64, i64) = (1, 10);

impl Detection {
    /// Reads and checks the key; `None` without it.
    ///
    /// # Errors
    /// Code 7 for a value out of its bounds, or when the time is missing; 999 for one of another
    /// type.
    pub fn of(request: &Request) -> Result<Option<Self>, Error> {
        let conf: Conf = request.config()?;
        let Some(conf) = conf.detect_conflict else { return Ok(None) };
        let invalid = |msg: String| Error::invalid_config(msg);
        let within = |key: &str, value: i64, (least, most): (i64, i64)| match (least..=most).contains(&value)
        {
            true => Ok(value),
            false => Err(invalid(format!("invalid detectConflict.{key} {value}, must be [{least}, {most}]"))),
        };
        let time = conf
            .timeout_ms
            .ok_or_else(|| invalid("detectConflict needs timeoutMs: how long to wait for a reply".into()))?;
        let time = within("timeoutMs", time, TIMEOUT_MS)?;
        let attempts = within("attempts", conf.attempts.unwrap_or(1), ATTEMPTS)?;
        Ok(Some(Self { time: Duration::from_millis(time.unsigned_abs()), attempts }))
    }

    /// The pieces before the link is set up. Pure.
    pub fn prepared(self, ifname: &str, own: &[IpNetwork]) -> Vec<Piece> {
        let mut pieces = vec![container::parameters(ifname, own, true)];
        if own.iter().any(IpNetwork::is_ipv6) {
            pieces.push(container::without_start_delay(ifname));
            let time = Some(self.time);
            pieces.push(Piece::DetectionTime(DetectionTime { link: ifname.into(), time }));
        }
        pieces
    }

    /// The addresses, after the link is set up; `arp` is the link on which ARP is sent and
    /// received. Pure.
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

/// Converts the error of a failed attachment. Two are temporary, so that the runtime may try again:
/// another host has the address, and the IPAM plugin may return another one; the kernel has not
/// finished duplicate detection.
pub fn to_cni_error(error: sys::Error) -> Error {
    let temporary =
        matches!(error.reason(), Some(NotReady::DuplicateAddress { .. } | NotReady::TentativeAddress { .. }));
    let error = Error::from(error);
    if temporary { Error { code: Code::TryAgainLater as u32, ..error } } else { error }
}

/// ADD with the addresses of an IPAM plugin. Creates `links` first, since the plugin may look for
/// the container's link or use it as DHCP does; then calls the plugin, and `finish` creates the
/// rest. If another host has an address, this deletes everything and requests another lease, as
/// often as `detection` allows: an IPAM plugin that allocates round-robin returns another address
/// then. It gives up when the plugin returns the same address again.
///
/// # Errors
/// The last error of the IPAM plugin or of a piece; links and lease are deleted again.
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
            // Report why another address was requested, not that there is none.
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
/// A piece failed; nothing is left.
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
