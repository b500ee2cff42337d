//! dns: what is answered (dns.md d.5, d.9).

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::dns_stage::{GATEWAYS, Named, ask, ask_tcp, call, dns, expect};
use super::with;
use crate::case::Case;
use crate::dns_client::{Question, kind, rcode};
use crate::room::Room;

pub const CASES: &[Case] = &[
    Case::new("dns/a_name_has_its_forms", &["D-020", "D-023", "D-024"], forms),
    Case::new("dns/a_long_answer_is_cut_where_it_must_be", &["D-027"], long_answer),
];

fn forms(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({"domainName": "Example.Org", "ttl": 7}))?;
    ensure!(
        named.result["dns"] == json!({"nameservers": GATEWAYS, "search": ["example.org"]}),
        "{}",
        named.result
    );
    for server in GATEWAYS {
        for name in ["web", "WEB", "web.example.org", "Web.EXAMPLE.org", "web.net"] {
            for (kind, v6) in [(kind::A, false), (kind::AAAA, true)] {
                for reply in [
                    ask(room, Some("c1"), server, &Question::new(name, kind))?,
                    ask_tcp(room, Some("c1"), server, &Question::new(name, kind))?,
                ] {
                    ensure!(reply.texts() == [&named.address(v6)], "{name} at {server}: {reply:?}");
                    ensure!(reply.question == name, "asked for {name}, answered about {}", reply.question);
                    ensure!(reply.is_authoritative() && reply.answers[0].ttl == 7, "{reply:?}");
                }
            }
        }
    }
    for v6 in [false, true] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse(&named.address(v6))?)?;
        ensure!(reply.texts() == ["web.example.org"], "{reply:?}");
        expect(room, Some("c1"), GATEWAYS[0], reply.texts()[0], &[&named.address(false)])?;
    }
    let unused = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse("10.1.2.200")?)?;
    ensure!(unused.rcode() == rcode::NXDOMAIN && unused.answers.is_empty(), "{unused:?}");
    Ok(())
}

/// One container with sixty addresses: as long an answer as sixty of one alias.
fn long_answer(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let ips: Vec<Value> =
        (2..62).map(|last| json!({"address": format!("10.1.2.{last}/24"), "gateway": GATEWAYS[0]})).collect();
    let previous = with(&named.config["prevResult"], json!({"ips": ips}));
    call(room, "ADD", &named.container, "many", &dns(&previous, json!({}))).run()?.result()?;
    let question = Question::new("many", kind::A);
    let short = ask(room, Some("c1"), GATEWAYS[0], &question)?;
    ensure!(short.bytes.len() <= 512 && short.is_truncated(), "{} bytes: {short:?}", short.bytes.len());
    let extended = Question { edns: Some(1232), ..question.clone() };
    let all =
        [ask(room, Some("c1"), GATEWAYS[0], &extended)?, ask_tcp(room, Some("c1"), GATEWAYS[0], &question)?];
    for reply in all {
        ensure!(reply.answers.len() == 60 && !reply.is_truncated(), "{} answers", reply.answers.len());
        ensure!(reply.answers.iter().all(|record| record.name == "many"), "{reply:?}");
    }
    Ok(())
}
