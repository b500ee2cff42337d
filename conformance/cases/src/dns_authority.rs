//! dns: which names are authoritative, and which are forwarded.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::dns_client::{Question, kind, rcode};
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, ask, ask_tcp, call, dns, expect, records};
use harness::stage::upstream::{UPSTREAMS, Upstream, answered, failed, outside};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/a_network_may_have_the_name_of_a_public_domain", &["D-022"], called_app),
    Case::new("dns/names_with_dots_are_warned_about_or_refused", &["D-107"], dotted),
    Case::new("dns/a_server_without_edns_is_queried_again", &["D-104"], without_edns),
    Case::new("dns/special_use_names_are_not_forwarded", &["D-105"], special),
    Case::new("dns/names_that_dnsname_accepted_fail_no_container", &["D-106"], lenient),
];

const ANSWER: &str = "203.0.113.1";

fn called_app(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::start(room, Some("outside"), UPSTREAMS[0], ANSWER)?;
    let bridge = with(&harness::config::bridge(USUAL), json!({"name": "app"}));
    let keys = json!({"upstreams": [UPSTREAMS[0]], "domainName": "example.org"});
    let named = Named::behind(room, "c1", "web", &bridge, keys)?;
    for name in ["web", "web.app", "web.example.org"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &[&named.address(false)])?;
    }
    let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("www.some.app", kind::A))?;
    ensure!(reply.texts() == [ANSWER] && !reply.is_authoritative(), "{reply:?}");
    ensure!(upstream.asked() == ["www.some.app"], "{:?}", upstream.asked());
    let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("no.example.org", kind::A))?;
    ensure!(reply.rcode() == rcode::NXDOMAIN && reply.is_authoritative(), "{reply:?}");
    ensure!(upstream.asked().len() == 1, "{:?}", upstream.asked());
    Ok(())
}

fn dotted(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let aliases = json!({"runtimeConfig": {"aliases": ["registry-1.docker.io", "web.foobar.io", "www.net"]},
        "domainName": "foobar.io"});
    let config = dns(&previous, aliases);
    let refusing = with(&config, json!({"dottedNames": "refuse"}));
    call(room, "ADD", &container, "web", &refusing).run()?.error_with(7, "registry-1.docker.io")?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    call(room, "ADD", &container, "web", &with(&config, json!({"dottedNames": "x"}))).run()?.error_code(7)?;
    let warns = |stderr: &str| -> Result<()> {
        ensure!(stderr.contains("registry-1.docker.io") && stderr.contains("c1"), "{stderr:?}");
        ensure!(!stderr.contains("web.foobar.io") && !stderr.contains("www.net"), "{stderr:?}");
        Ok(())
    };
    let answer = call(room, "ADD", &container, "web", &config).run()?;
    answer.result()?;
    warns(&answer.stderr)?;
    expect(room, Some("c1"), GATEWAYS[0], "registry-1.docker.io", &["10.1.2.2"])?;
    let status = with(&config, json!({"cniVersion": "1.1.0", "prevResult": null}));
    let answer = room.call("dns", "STATUS").config(&status).run()?;
    ensure!(answer.succeeded(), "{}", answer.summary());
    warns(&answer.stderr)
}

/// A server from before 1999 rejects EDNS with one of two codes, with or without the question.
fn without_edns(room: &Room) -> Result<()> {
    outside(room)?;
    for (nth, code) in [rcode::FORMERR, rcode::NOTIMP].into_iter().enumerate() {
        let at = UPSTREAMS[nth];
        let address = ANSWER.parse()?;
        let old = Upstream::with(room, Some("outside"), at, move |question, _| {
            if question.get(11) == Some(&0) {
                return vec![answered(question, address)];
            }
            let mut reply = failed(question, code);
            if code == rcode::FORMERR {
                reply.truncate(12);
                reply[5] = 0;
            }
            vec![reply]
        })?;
        let id = format!("c{nth}");
        let named = Named::add(room, &id, "web", json!({"upstreams": [at]}))?;
        let question = Question { edns: Some(1232), ..Question::new("www.moor.test", kind::A) };
        let reply = ask(room, Some(&id), GATEWAYS[0], &question)?;
        ensure!(reply.texts() == [ANSWER], "code {code}: {reply:?}");
        ensure!(old.asked().len() == 2, "{:?}", old.asked());
        named.del(room)?;
    }
    Ok(())
}

fn special(room: &Room) -> Result<()> {
    outside(room)?;
    let upstream = Upstream::start(room, Some("outside"), UPSTREAMS[0], ANSWER)?;
    let _named = Named::add(room, "c1", "web", json!({"upstreams": [UPSTREAMS[0]]}))?;
    for name in ["localhost", "any.localhost"] {
        for (kind, address) in [(kind::A, "127.0.0.1"), (kind::AAAA, "::1")] {
            let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new(name, kind))?;
            ensure!(reply.texts() == [address], "{name}: {reply:?}");
        }
    }
    for address in ["127.0.0.1", "::1"] {
        let reply = ask_tcp(room, Some("c1"), GATEWAYS[0], &Question::reverse(address)?)?;
        ensure!(reply.texts() == ["localhost"], "{address}: {reply:?}");
    }
    for name in ["invalid", "no.such.invalid", "abcdef.onion"] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new(name, kind::A))?;
        ensure!(reply.rcode() == rcode::NXDOMAIN, "{name}: {reply:?}");
    }
    for address in ["127.0.0.9", "0.0.0.1", "169.254.1.1", "fe80::1"] {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::reverse(address)?)?;
        ensure!(reply.rcode() == rcode::NXDOMAIN, "{address}: {reply:?}");
    }
    ensure!(upstream.asked().is_empty(), "forwarded: {:?}", upstream.asked());
    Ok(())
}

fn lenient(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let keys = json!({"type": "dnsname", "runtimeConfig": {"aliases": {"net": ["123", "trail-", "WWW.Site.", "www.site"]}}});
    let config = dns(&previous, keys);
    let answer = call(room, "ADD", &container, "-web-", &config).run()?;
    answer.result()?;
    for ignored in ["123", "trail-", "-web-"] {
        ensure!(answer.stderr.contains(ignored), "no warning about {ignored}: {:?}", answer.stderr);
    }
    for name in ["www.site", "c1"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &["10.1.2.2"])?;
    }
    let strict = with(&config, json!({"invalidNames": "error"}));
    call(room, "ADD", &container, "web", &strict)
        .run()?
        .error_with(7, "123")
        .context("invalidNames: error")?;
    // With our own type it is an error as before; a final dot is allowed.
    let own = with(&config, json!({"type": "dns", "runtimeConfig": {"aliases": ["site.", "site"]}}));
    call(room, "ADD", &container, "web", &own).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "site", &["10.1.2.2"])?;
    call(room, "ADD", &container, "123", &own).run()?.error_code(7).map(drop)
}
