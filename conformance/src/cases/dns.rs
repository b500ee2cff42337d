//! dns: who is registered, by what names, and how that ends (dns.md d.2 to d.5, d.7, d.10, d.11).

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::dns_stage::{
    GATEWAYS, INSIDE, Named, Upstream, ask, ask_tcp, call, dns, expect, places, records, resolve,
    the_responder, until,
};
use super::{USUAL, VERSIONS, with};
use crate::case::Case;
use crate::dns_client::{Question, kind, rcode};
use crate::ip;
use crate::room::Room;
use crate::room::call::Call;

pub const CASES: &[Case] = &[
    Case::new("dns/a_name_resolves_before_add_returns", &["D-001", "D-005"], at_once),
    Case::new("dns/aliases_are_a_list_or_a_map", &["D-002"], aliases),
    Case::new("dns/containers_share_an_alias", &["D-003"], shared_alias),
    Case::new("dns/containers_share_a_name", &["D-004"], shared_name),
    Case::new("dns/two_interfaces_of_a_container_are_two_attachments", &["D-006"], two_interfaces),
    Case::new("dns/without_a_name_there_is_the_short_id", &["D-007", "D-008"], short_id),
    Case::new("dns/what_is_no_name_is_refused_and_makes_nothing", &["D-009", "D-054"], bad_names),
    Case::new("dns/an_odd_result_is_refused_and_makes_nothing", &["D-010", "D-012"], odd_results),
    Case::new("dns/the_result_has_the_responder_first", &["D-011", "dns a.2"], result),
    Case::new("dns/a_configuration_of_dnsname_works_unchanged", &["dns a.1"], dnsname),
    Case::new("dns/a_name_has_its_forms", &["D-020", "D-023", "D-024"], forms),
    Case::new("dns/a_long_answer_is_cut_where_it_must_be", &["D-027"], long_answer),
    Case::new("dns/unknown_names_go_to_the_outside", &["D-021", "D-022", "dns d.6"], outside),
    Case::new("dns/a_published_port_53_diverts_no_question", &["D-056", "dns d.7"], published),
    Case::new("dns/two_hundred_of_the_only_container", &["D-060"], churn),
    Case::new("dns/four_at_a_time", &["D-060", "C-047"], parallel),
    Case::new("dns/a_killed_responder_is_revived", &["D-061"], revived),
    Case::new("dns/systemd_that_does_not_answer_is_in_nobodys_way", &["D-072", "dns d.2"], no_systemd),
    Case::new("dns/the_responder_has_nothing_of_its_callers", &["D-053", "dns d.2"], nothing_inherited),
    Case::new("dns/del_matrix", &["D-065", "C-042"], del_matrix),
    Case::new("dns/check_names_every_drift", &["D-066", "C-043"], drifts),
    Case::new("dns/check_tells_that_the_hosts_firewall_drops", &["D-066", "dns d.7"], firewall),
    Case::new("dns/gc_collects_what_is_not_valid", &["D-067", "C-045"], gc),
    Case::new("dns/a_taken_port_is_told_and_nothing_is_left", &["D-068"], taken),
    Case::new("dns/status", &["C-044", "dns d.10"], status),
    Case::new("dns/an_idle_responder_ends", &["D-071"], idle),
    Case::new("dns/without_a_gateway_containers_ask_inside", &["D-073", "dns d.4"], inside),
    Case::new("dns/a_namespace_ends_with_its_attachment", &["D-074"], namespace_ends),
    Case::new("dns/a_full_disk_fails_cleanly", &["D-075"], full),
];

const NAMES: [&str; 2] = ["c1", "c2"];

fn at_once(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let address = named.address(false);
    for _ in 0..100 {
        named.del(room)?;
        named.verb(room, "ADD")?.result()?;
        expect(room, Some("c1"), GATEWAYS[0], "web", &[&address])?;
    }
    // Again, with another address: that of before is nobody's.
    let mut moved = named.config.clone();
    moved["prevResult"]["ips"][0]["address"] = json!("10.1.2.77/24");
    call(room, "ADD", &named.container, "web", &moved).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.77"])?;
    ensure!(records().len() == 1, "{:?}", records());
    Ok(())
}

fn aliases(room: &Room) -> Result<()> {
    let list = json!({"runtimeConfig": {"aliases": ["www", "API"]}});
    let map = json!({"runtimeConfig": {"aliases": {"net": ["www", "API"], "other": ["hidden"]}}});
    let recorded = || -> Result<Value> {
        let mut record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
        record["order"] = Value::Null;
        Ok(record)
    };
    let named = Named::add(room, "c1", "web", list)?;
    let by_list = recorded()?;
    named.del(room)?;
    call(room, "ADD", &named.container, "web", &with(&named.config, map)).run()?.result()?;
    ensure!(recorded()? == by_list, "the map made {} and the list {by_list}", recorded()?);
    for name in ["web", "www", "api", "Api"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &[&named.address(false)])?;
    }
    let before = room.snapshot()?;
    for odd in [json!(5), json!("www"), json!([5]), json!({"net": "www"}), json!({"net": [{}]})] {
        let config = with(&named.config, json!({"runtimeConfig": {"aliases": odd}}));
        call(room, "ADD", &named.container, "web", &config).run()?.error_with(999, "aliases")?;
    }
    room.ensure_unchanged(&before, "a refused ADD changed something")
}

fn shared_alias(room: &Room) -> Result<()> {
    let alias = json!({"runtimeConfig": {"aliases": ["www"]}});
    let both = [Named::add(room, "c1", "web1", alias.clone())?, Named::add(room, "c2", "web2", alias)?];
    let mut addresses = both.each_ref().map(|named| named.address(false));
    addresses.sort();
    let mut first = vec![];
    for _ in 0..8 {
        let reply = ask(room, Some("c1"), GATEWAYS[0], &Question::new("www", kind::A))?;
        let mut told = reply.texts();
        first.push(told.first().context("no answer")?.to_string());
        told.sort_unstable();
        ensure!(told == addresses, "{told:?}, not {addresses:?}");
    }
    first.sort();
    first.dedup();
    ensure!(first == addresses, "of 8 answers, {first:?} came first");
    Ok(())
}

fn shared_name(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "web", json!({}))?];
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&one.address(false), &two.address(false)])?;
    one.del(room)?;
    expect(room, Some("c2"), GATEWAYS[0], "web", &[&two.address(false)])
}

fn two_interfaces(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let second = |plugin: &str, verb: &str, config: &Value| {
        let call = room.attach(plugin, verb, &named.container).env("CNI_IFNAME", "eth1").config(config);
        let call = if plugin == "dns" { call.env("CNI_ARGS", "K8S_POD_NAME=web") } else { call };
        call.run()
    };
    let previous = second("bridge", "ADD", &super::bridge(USUAL))?.result()?;
    let config = dns(&previous, json!({}));
    second("dns", "ADD", &config)?.result()?;
    let other = super::portmap::address(&config, false);
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false), &other])?;
    named.del(room)?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&other])
}

fn short_id(room: &Room) -> Result<()> {
    let id = "0123456789abcdef0123";
    let named = Named::add(room, id, "", json!({}))?;
    expect(room, None, GATEWAYS[0], "0123456789ab", &[&named.address(false)])?;
    let record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
    ensure!(record["names"] == json!(["0123456789ab"]), "{record}");
    for args in ["UNKNOWN=1;K8S_POD_NAME=web", "K8S_POD_NAME=web;junk", "IgnoreUnknown=odd;K8S_POD_NAME=web"]
    {
        let call = room.attach("dns", "ADD", &named.container).config(&named.config);
        call.env("CNI_ARGS", args).run()?.result().with_context(|| args.to_owned())?;
        expect(room, None, GATEWAYS[0], "web", &[&named.address(false)])?;
    }
    Ok(())
}

fn bad_names(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let before = room.snapshot()?;
    let long = "a".repeat(256);
    for bad in
        ["a b", "a,b", "a\n10.9.9.9 injected", "a\0b", "-a", "a..b", "ä", "localhost", "10.0.0.1", &long]
    {
        let config = dns(&previous, json!({"runtimeConfig": {"aliases": [bad]}}));
        call(room, "ADD", &container, "web", &config)
            .run()?
            .error_code(7)
            .with_context(|| format!("{bad:?}"))?;
    }
    for network in ["../x", "a/b", ".", "..", ""] {
        let config = with(&dns(&previous, json!({})), json!({"name": network}));
        call(room, "ADD", &container, "web", &config).run()?.error()?;
    }
    room.ensure_unchanged(&before, "a refused ADD changed something")?;
    let skip = json!({"runtimeConfig": {"aliases": ["good", "bad one"]}, "invalidNames": "skip"});
    call(room, "ADD", &container, "web", &dns(&previous, skip)).run()?.result()?;
    let record: Value = serde_json::from_slice(&fs::read(&records()[0])?)?;
    ensure!(record["names"] == json!(["web", "good", "c1"]), "{record}");
    Ok(())
}

fn odd_results(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let ip = |keys: Value| with(&json!({"address": "10.1.2.3/24"}), keys);
    for odd in [
        json!({}),
        json!({"interfaces": [], "ips": []}),
        json!({"interfaces": [{"name": "br0"}]}),
        json!({"ips": [ip(json!({"interface": 0}))]}),
        json!({"interfaces": [{"name": "br0"}], "ips": [ip(json!({"interface": 7}))]}),
        json!({"interfaces": [{"name": "br0"}], "ips": [ip(json!({"interface": 0}))]}),
    ] {
        let odd = with(&odd, json!({"cniVersion": USUAL}));
        call(room, "ADD", &container, "web", &dns(&odd, json!({}))).run()?.error_code(7)?;
    }
    call(room, "ADD", &container, "web", &dns(&Value::Null, json!({}))).run()?.error_with(7, "chained")?;
    room.ensure_unchanged(&before, "a refused ADD changed something")
}

fn result(room: &Room) -> Result<()> {
    for version in VERSIONS.into_iter().filter(|version| *version >= "0.3.0") {
        let container = room.container(&format!("c-{version}"))?;
        let bridge = with(
            &super::bridge(version),
            json!({"dns": {
                "nameservers": ["9.9.9.9"], "search": ["here"], "domain": "dom", "options": ["ndots:1"],
            }}),
        );
        let previous = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        let config = with(&dns(&previous, json!({"domainName": "there"})), json!({"cniVersion": version}));
        let answer = call(room, "ADD", &container, "web", &config).run()?.result()?;
        let mut wanted = previous.clone();
        wanted["dns"]["nameservers"] = json!([GATEWAYS[0], GATEWAYS[1], "9.9.9.9"]);
        wanted["dns"]["search"] = json!(["here", "there"]);
        ensure!(answer == wanted, "{version}: {answer}, not {wanted}");
        for (keys, key, value) in [
            (json!({"domainName": ""}), "search", json!(["here"])),
            (json!({"domainName": "HERE"}), "search", json!(["here"])),
            (json!({"keepNameservers": false}), "nameservers", json!(GATEWAYS)),
        ] {
            let answer = call(room, "ADD", &container, "web", &with(&config, keys)).run()?.result()?;
            ensure!(answer["dns"][key] == value, "{version}: {}", answer["dns"]);
        }
    }
    Ok(())
}

/// By its name, too: a link to the plugin.
fn dnsname(room: &Room) -> Result<()> {
    let program = room.scratch("dnsname");
    std::os::unix::fs::symlink(room.suite.join("dns"), &program)?;
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let config = json!({
        "cniVersion": USUAL, "name": "net", "type": "dnsname", "domainName": "foobar.io",
        "capabilities": {"aliases": true}, "runtimeConfig": {"aliases": {"net": ["www"]}}, "prevResult": previous,
    });
    let run = |verb: &str| {
        let call = Call::new(room, program.clone()).config(&config).env("CNI_PATH", &room.suite);
        let call = call.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
        call.env("CNI_NETNS", &container.path).env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web").run()
    };
    let answer = run("ADD")?.result()?;
    ensure!(answer["dns"] == json!({"nameservers": GATEWAYS, "search": ["foobar.io"]}), "{}", answer["dns"]);
    for name in ["web", "web.foobar.io", "www", "www.foobar.io", "c1"] {
        expect(room, Some("c1"), GATEWAYS[0], name, &["10.1.2.2"])?;
    }
    run("CHECK")?.silent()?;
    run("DEL")?.silent()
}

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

fn published(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let (thief, config) = super::portmap::published(
        room,
        "thief",
        json!([{"hostPort": 53, "containerPort": 53, "protocol": "udp"}, {"hostPort": 53, "containerPort": 53, "protocol": "tcp"}]),
    )?;
    let _server =
        Upstream::start(room, Some("thief"), &super::portmap::address(&config, false), "203.0.113.66")?;
    for from in [Some("c1"), Some("thief"), None] {
        expect(room, from, GATEWAYS[0], "web", &[&named.address(false)])?;
        let reply = ask_tcp(room, from, GATEWAYS[1], &Question::new("web", kind::A))?;
        ensure!(reply.texts() == [&named.address(false)], "{reply:?}");
    }
    room.attach("portmap", "DEL", &thief).config(&config).run()?.silent()?;
    named.del(room)?;
    let left = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!left.contains("resolvers"), "left behind: {left}");
    Ok(())
}

fn churn(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let address = named.address(false);
    for round in 0..200 {
        named.del(room).with_context(|| format!("round {round}"))?;
        named.verb(room, "ADD")?.result().with_context(|| format!("round {round}"))?;
    }
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&address])?;
    named.del(room)?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    Ok(())
}

fn parallel(room: &Room) -> Result<()> {
    let before = ip::output("nft", &["list", "ruleset"])?;
    let named: Vec<Named> = (0..4)
        .map(|worker| Named::add(room, &format!("c{worker}"), &format!("web{worker}"), json!({})))
        .collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        let work = |named: &Named| -> Result<()> {
            for round in 0..100 {
                let told = || format!("{} round {round}", named.name);
                named.del(room).with_context(told)?;
                named.verb(room, "ADD")?.result().with_context(told)?;
                expect(room, Some(&named.container.id), GATEWAYS[0], &named.name, &[&named.address(false)])
                    .with_context(told)?;
            }
            named.del(room)
        };
        let workers: Vec<_> = named.iter().map(|named| scope.spawn(move || work(named))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?)
    })?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    let after = ip::output("nft", &["list", "ruleset"])?;
    ensure!(after == before, "left behind: {after}");
    Ok(())
}

fn kill(pid: u32) -> Result<()> {
    let pid = nix::unistd::Pid::from_raw(pid.try_into()?);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)?;
    until(Duration::from_secs(2), "a killed responder is gone", || the_responder().is_err())
}

fn revived(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "db", json!({}))?];
    let third = Named::add(room, "c3", "x", json!({}))?;
    for verb in ["CHECK", "ADD", "DEL", "GC", "STATUS"] {
        kill(the_responder()?)?;
        let answer = match verb {
            "GC" => {
                let valid =
                    json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth0"}]);
                let keys =
                    json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid});
                room.call("dns", "GC").config(&with(&one.config, keys)).run()?
            }
            "STATUS" => {
                let keys = json!({"cniVersion": "1.1.0", "prevResult": null});
                room.call("dns", "STATUS").config(&with(&one.config, keys)).run()?
            }
            _ => third.verb(room, verb)?,
        };
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        the_responder().with_context(|| format!("after {verb}"))?;
        expect(room, Some("c2"), GATEWAYS[0], "web", &[&one.address(false)])
            .with_context(|| verb.to_owned())?;
        expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])
            .with_context(|| verb.to_owned())?;
    }
    Ok(())
}

/// What looks as if systemd managed this machine, and nobody is there.
fn no_systemd(room: &Room) -> Result<()> {
    fs::create_dir_all("/run/systemd/system")?;
    let named = Named::add(room, "c1", "web", json!({}))?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])
}

fn nothing_inherited(room: &Room) -> Result<()> {
    // The harness waits for the end of the plugin's output, so a pipe that is kept open fails the ADD already.
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = the_responder()?;
    let mut open = vec![];
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        open.push(fs::read_link(entry.path())?.display().to_string());
    }
    ensure!(!open.iter().any(|target| target.starts_with("pipe:")), "{open:?}");
    let place = places().remove(0);
    let own = |target: &String| {
        ["socket:", "anon_inode:", "/dev/null"].iter().any(|kind| target.starts_with(kind))
            || *target == place.join("responder.lock").display().to_string()
    };
    ensure!(open.iter().all(own), "{open:?}");
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    ensure!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    // Fields 5 and 6 behind the name: the group of processes and the session are its own.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    ensure!(
        fields[3] == pid.to_string() && fs::read_link(format!("/proc/{pid}/cwd"))?.as_os_str() == "/",
        "{stat}"
    );
    named.del(room)
}

/// {namespace fine, unset, gone} x {prevResult, none} x {record, broken record} x {responder, none}, twice each.
fn del_matrix(room: &Room) -> Result<()> {
    let first = Named::add(room, "first", "first", json!({}))?;
    for case in 0..24 {
        let (netns, prev, broken, dead) = (case % 3, case / 3 % 2 == 0, case / 6 % 2 == 1, case / 12 == 1);
        let told = || format!("namespace {netns}, prevResult {prev}, broken {broken}, dead {dead}");
        let id = format!("c{case}");
        let named = Named::add(room, &id, "web", json!({}))?;
        let record = records().into_iter().find(|path| path.ends_with(format!("{id}@eth0.json")));
        let record = record.with_context(|| format!("no record of {id}"))?;
        if broken {
            fs::write(&record, "{")?;
        }
        if dead {
            kill(the_responder()?)?;
        }
        if netns == 2 {
            room.remove(&named.container)?;
        }
        let config = if prev {
            named.config.clone()
        } else {
            with(&named.config, json!({"prevResult": null, "ttl": "x"}))
        };
        for time in ["once", "twice"] {
            let call = call(room, "DEL", &named.container, "", &config);
            let call = if netns == 1 { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(|| format!("{}, {time}", told()))?;
            ensure!(!record.exists(), "{}, {time}: the record is there", told());
        }
        expect(room, None, GATEWAYS[0], "first", &[&first.address(false)]).with_context(told)?;
        ensure!(resolve(room, None, GATEWAYS[0], "web.net")?.is_empty(), "{}: the name is there", told());
        let bridge = super::bridge(USUAL);
        room.attach("bridge", "DEL", &named.container).config(&bridge).run()?.silent()?;
    }
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    named.verb(room, "CHECK")?.silent()?;
    let record = records().remove(0);
    let right = fs::read_to_string(&record)?;
    fs::remove_file(&record)?;
    named.verb(room, "CHECK")?.error_with(999, "not recorded")?;
    for (from, to, word) in [("10.1.2.2", "10.1.2.99", "addresses"), ("\"web\"", "\"wob\"", "names")] {
        fs::write(&record, right.replace(from, to))?;
        named.verb(room, "CHECK")?.error_with(999, word)?;
    }
    fs::write(&record, "{")?;
    named.verb(room, "CHECK")?.error()?;
    fs::write(&record, &right)?;
    named.verb(room, "CHECK")?.silent()?;
    // What is there to be mended is mended.
    ip::output("nft", &["flush", "ruleset"])?;
    named.verb(room, "CHECK")?.silent()?;
    ensure!(ip::output("nft", &["list", "ruleset"])?.contains("resolvers4"), "the rules are not there again");
    // A responder that cannot be revived: its port is another's meanwhile.
    kill(the_responder()?)?;
    let taken = UdpSocket::bind((GATEWAYS[0], 53))?;
    named.verb(room, "CHECK")?.error_with(999, GATEWAYS[0])?;
    drop(taken);
    named.verb(room, "CHECK")?.silent()
}

/// The plugin changes nobody else's chains: it says that containers get no answer.
fn firewall(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    named.verb(room, "CHECK")?.silent()?;
    let drop = "add table inet fw; add chain inet fw input { type filter hook input priority 0; policy drop; }; \
        add rule inet fw input iif lo accept; add rule inet fw input icmpv6 type 133-137 accept";
    ip::output("nft", &[drop])?;
    let error = named.verb(room, "CHECK")?.error_with(999, GATEWAYS[0])?;
    ensure!(error.details.contains("firewall"), "{error}");
    ip::output("nft", &["add rule inet fw input iifname br0 th dport 53 accept"])?;
    named.verb(room, "CHECK")?.silent()?;
    named.del(room)
}

fn gc(room: &Room) -> Result<()> {
    let keep = Named::add(room, "keep", "keep", json!({}))?;
    let stale = Named::add(room, "stale", "stale", json!({}))?;
    let other_bridge = with(
        &super::bridge(USUAL),
        json!({"name": "other", "bridge": "br1", "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]]}}),
    );
    let other = Named::behind(room, "other", "other", &other_bridge, json!({}))?;
    let valid = json!([{"containerID": "keep", "ifname": "eth0"}]);
    let keys = json!({
        "cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid,
    });
    let run = |keys: Value| room.call("dns", "GC").config(&with(&keep.config, keys)).run();
    run(json!({"cniVersion": "1.1.0", "prevResult": null}))?.silent()?;
    ensure!(records().len() == 3, "nothing was said of what is valid: {:?}", records());
    run(keys)?.silent()?;
    ensure!(records().len() == 2, "{:?}", records());
    expect(room, Some("keep"), GATEWAYS[0], "keep", &[&keep.address(false)])?;
    ensure!(resolve(room, Some("keep"), GATEWAYS[0], "stale.net")?.is_empty(), "stale is there");
    expect(room, Some("other"), "10.9.0.1", "other", &[&other.address(false)])?;
    stale.del(room)?;
    run(json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": []}))?.silent()?;
    ensure!(records().len() == 1, "{:?}", records());
    let rules = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!rules.contains(GATEWAYS[0]) && rules.contains("10.9.0.1"), "{rules}");
    Ok(())
}

fn taken(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let rules = ip::output("nft", &["list", "ruleset"])?;
    let udp = UdpSocket::bind("0.0.0.0:53")?;
    let config = dns(&previous, json!({}));
    let add = || call(room, "ADD", &container, "web", &config).run();
    let began = Instant::now();
    let error = add()?.error()?;
    ensure!(began.elapsed() < Duration::from_secs(1), "it took {:?}", began.elapsed());
    let said = error.msg.to_lowercase();
    for word in [GATEWAYS[0], "udp", "in use"] {
        ensure!(said.contains(word), "{word:?} is not in {error}");
    }
    drop(udp);
    let tcp = std::net::TcpListener::bind("[::]:53")?;
    let said = add()?.error()?.msg.to_lowercase();
    ensure!(said.contains("tcp") && said.contains("in use"), "{said}");
    ensure!(
        records().is_empty() && ip::output("nft", &["list", "ruleset"])? == rules,
        "left behind: {:?}",
        records()
    );
    // The way out: another port, which containers need not know of.
    let other = with(&config, json!({"port": 5353}));
    call(room, "ADD", &container, "web", &other).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])?;
    drop(tcp);
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "dns"});
    let run = |keys: Value| room.call("dns", "STATUS").config(&with(&config, keys)).run();
    run(json!({}))?.silent()?;
    fs::write(room.scratch("file"), "")?;
    run(json!({"stateDir": room.scratch("file").join("x")}))?.error_code(50)?;
    run(json!({"ttl": -1}))?.error_code(7)?;
    let named = Named::add(room, "c1", "web", json!({}))?;
    run(json!({}))?.silent()?;
    // A file of a later version is told, and stays.
    let record = records().remove(0);
    let later = fs::read_to_string(&record)?.replace("\"v\":1", "\"v\":2");
    fs::write(&record, &later)?;
    run(json!({}))?.error_code(51)?;
    ensure!(fs::read_to_string(&record)? == later, "the file was changed");
    named.del(room)?;
    run(json!({}))?.silent()
}

fn idle(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, json!({}));
    let call = |verb: &str| call(room, verb, &container, "web", &config).env("MOOR_DNS_GRACE", "1").run();
    call("ADD")?.result()?;
    the_responder()?;
    call("DEL")?.silent()?;
    the_responder().context("it ended at once")?;
    until(Duration::from_secs(10), "the idle responder ends", || the_responder().is_err())?;
    let place = places().remove(0);
    until(Duration::from_secs(1), "its socket goes", || !place.join("control.sock").exists())?;
    ensure!(place.join("lock").exists() && place.join("responder.lock").exists(), "the locks are gone");
    call("ADD")?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])
}

/// macvlan: the host has no address that its containers could reach.
fn inside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let upstream = Upstream::start(room, Some("outside"), "198.51.100.2", "203.0.113.9")?;
    let mut addresses = vec![];
    let mut configs = vec![];
    for (id, name) in NAMES.into_iter().zip(["web", "db"]) {
        let lan = super::lan::lan("macvlan", &json!({}));
        let (container, previous) = super::lan::add(room, "macvlan", id, &lan)?;
        let config = dns(&previous, json!({"name": "lan", "upstreams": ["198.51.100.2"]}));
        let result = call(room, "ADD", &container, name, &config).run()?.result()?;
        ensure!(result["dns"]["nameservers"] == json!([INSIDE]), "{}", result["dns"]);
        addresses.push(super::portmap::address(&config, false));
        configs.push((container, with(&config, json!({"prevResult": result}))));
    }
    let all_answer = || -> Result<()> {
        for id in NAMES {
            expect(room, Some(id), INSIDE, "web", &[&addresses[0]])?;
            let reply = ask_tcp(room, Some(id), INSIDE, &Question::new("db.lan", kind::A))?;
            ensure!(reply.texts() == [&addresses[1]], "{reply:?}");
        }
        Ok(())
    };
    all_answer()?;
    expect(room, Some("c1"), INSIDE, "www.moor.test", &["203.0.113.9"])?;
    ensure!(upstream.asked() == ["www.moor.test"], "{:?}", upstream.asked());
    // A server of the container's own may have the port of all its addresses.
    let own = room.inside("c1", || Ok(UdpSocket::bind("0.0.0.0:53")?))?;
    all_answer()?;
    drop(own);
    let check = |at: usize| call(room, "CHECK", &configs[at].0, ["web", "db"][at], &configs[at].1).run();
    check(0)?.silent()?;
    // Sockets went with the responder: the next call has them all opened again.
    kill(the_responder()?)?;
    check(1)?.silent()?;
    all_answer()?;
    call(room, "DEL", &configs[0].0, "", &configs[0].1).run()?.silent()?;
    ensure!(resolve(room, Some("c2"), INSIDE, "web.lan")?.is_empty(), "web is there");
    let rules = room.inside("c1", || ip::output("nft", &["list", "ruleset"]))?;
    ensure!(rules.trim().is_empty(), "left in the container: {rules}");
    Ok(())
}

fn namespace_ends(room: &Room) -> Result<()> {
    let lan = super::lan::lan("macvlan", &json!({}));
    room.outside(&[])?;
    let (container, previous) = super::lan::add(room, "macvlan", "c1", &lan)?;
    let config = dns(&previous, json!({"name": "lan"}));
    call(room, "ADD", &container, "web", &config).run()?.result()?;
    // The parent counts its children's lower addresses only as long as they live.
    let address = super::portmap::address(&config, false);
    let answers =
        || room.inside("outside", || crate::socket::reach(address.parse()?, Duration::from_millis(200)));
    room.reach("outside", &address)?;
    call(room, "DEL", &container, "", &config).run()?.silent()?;
    room.remove(&container)?;
    until(Duration::from_secs(1), "the namespace is gone with its macvlan", || answers().is_err())
}

fn full(room: &Room) -> Result<()> {
    let state = room.scratch("state");
    fs::create_dir_all(&state)?;
    ip::output(
        "mount",
        &["-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", &state.display().to_string()],
    )?;
    let keys = json!({"stateDir": state});
    let named = Named::add(room, "c1", "web", keys.clone())?;
    let filled = state.join("fill");
    // As much as there is room for.
    drop(fs::write(&filled, vec![0; 128 << 10]));
    let container = room.container("c2")?;
    let previous = room.attach("bridge", "ADD", &container).config(&super::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, keys);
    let error = call(room, "ADD", &container, "db", &config).run()?.error()?;
    ensure!(error.msg.contains("No space") || error.details.contains("ENOSPC"), "{error}");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
    ensure!(resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is there");
    fs::remove_file(&filled)?;
    call(room, "ADD", &container, "db", &config).run()?.result()?;
    ensure!(!resolve(room, Some("c1"), GATEWAYS[0], "db.net")?.is_empty(), "db is not there");
    call(room, "DEL", &container, "db", &config).run()?.silent()?;
    named.del(room)
}
