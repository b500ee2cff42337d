//! Forwarding of the host.

use cni::AddResult;
use host::piece::{Piece, Place, Sysctl, Sysctls};
use sys::IpFamily;

/// The host forwards packets of each family in which the result has a gateway. Pure.
pub fn host_forwarding(result: &AddResult) -> Option<Piece> {
    let gateways = || result.ips.iter().filter_map(|ip| ip.gateway);
    let serves = |family| gateways().any(|gateway| IpFamily::of(gateway) == family);
    let set = |key: &str| Sysctl { key: key.into(), value: "1", required: true };
    let mut settings = Vec::new();
    settings.extend(serves(IpFamily::V4).then(|| set("net/ipv4/ip_forward")));
    settings.extend(serves(IpFamily::V6).then(|| set("net/ipv6/conf/all/forwarding")));
    let forwarding = Sysctls { place: Place::Host, purpose: "failed to enable forwarding", settings };
    (!forwarding.settings.is_empty()).then_some(Piece::Sysctls(forwarding))
}
