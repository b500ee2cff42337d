//! dns: what is asked of the outside (dns.md d.6).

use anyhow::{Result, ensure};
use serde_json::json;

use super::dns_stage::{GATEWAYS, Named, Upstream, ask, expect};
use crate::case::Case;
use crate::dns_client::{Question, kind, rcode};
use crate::room::Room;

pub const CASES: &[Case] =
    &[Case::new("dns/unknown_names_go_to_the_outside", &["D-021", "D-022", "dns d.6"], outside)];

fn outside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let upstream = Upstream::start(room, Some("outside"), "198.51.100.2", "203.0.113.9")?;
    let keys = json!({"domainName": "example.org", "upstreams": ["198.51.100.2"]});
    let named = Named::add(room, "c1", "web", keys)?;
    expect(room, Some("c1"), GATEWAYS[0], "www.moor.test", &["203.0.113.9"])?;
    for kind in [15, 16, 33, 65, 255] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("web", kind))?;
        ensure!(reply.rcode() == rcode::NOERROR, "type {kind} of a name that there is: {reply:?}");
    }
    for name in ["nosuch.example.org", "nosuch.net"] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new(name, kind::A))?;
        ensure!(reply.rcode() == rcode::NXDOMAIN, "{name}: {reply:?}");
        ensure!(reply.authority.iter().any(|record| record.kind == kind::SOA), "{name}: {reply:?}");
    }
    ensure!(upstream.asked() == ["www.moor.test"], "the outside was asked for {:?}", upstream.asked());
    named.del(room)
}
