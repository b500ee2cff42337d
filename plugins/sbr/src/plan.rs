//! The piece of an attachment. Pure.

use cni::{AddResult, Error, IpConfig, Request};
use host::piece::{Piece, Source, SourceRouting};

use crate::config::Config;

/// The routes by source of the attachment's addresses.
///
/// # Errors
/// The previous result has no address on the container's interface.
pub fn plan(config: &Config, request: &Request, result: &AddResult) -> Result<Piece, Error> {
    let mut sources: Vec<Source> = Vec::new();
    for ip in result.ips.iter().filter(|ip| is_of_link(ip, request, result)) {
        let configured = config.gateway(ip.address.ip());
        let source = Source {
            net: ip.address,
            gateway: configured.or(ip.gateway.filter(|of| of.is_ipv4() == ip.address.is_ipv4())),
            replaces_default: configured.is_some(),
        };
        if !sources.iter().any(|other| other.net.ip() == source.net.ip()) {
            sources.push(source);
        }
    }
    if sources.is_empty() {
        let msg = format!("No IP addresses supplied on interface: {}", request.ifname);
        return Err(Error::internal(msg));
    }
    let link = request.ifname.clone();
    Ok(Piece::SourceRouting(SourceRouting { link, sources, table: config.table, hints: config.hints }))
}

/// Whether an address is on the container's interface: it names that one, or none that exists. A
/// link of the host may have the same name.
fn is_of_link(ip: &IpConfig, request: &Request, result: &AddResult) -> bool {
    let Some(of) = ip.interface.and_then(|index| result.interfaces.get(index)) else { return true };
    let in_container = |sandbox: &Option<String>| sandbox.as_deref() == Some(&request.netns);
    let has_own =
        || result.interfaces.iter().any(|link| link.name == request.ifname && in_container(&link.sandbox));
    of.name == request.ifname && (in_container(&of.sandbox) || !has_own())
}
