//! bandwidth: what ADD makes, as `tc` and `ip` see it, and CHECK. See also
//! [`crate::bandwidth_life`] and [`crate::bandwidth_packets`].

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, bridge, ptp, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::{Answer, Call};
use harness::stage::portmap::bridged;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("bandwidth/both_directions_are_as_the_reference_makes_them", &["BW-1", "BW-2"], as_reference)
        .needs(&[Need::Reference]),
    Case::new("bandwidth/every_version_has_its_result", &["C-036", "C-060", "BW-2"], versions),
    Case::new("bandwidth/without_rates_nothing_is_made", &["BW-3", "BW-B5"], nothing),
    Case::new("bandwidth/keys_override_the_runtimes", &["BW-K1", "BW-K2", "BW-K3"], precedence),
    Case::new("bandwidth/invalid_values_are_refused_before_any_change", &["BW-K3", "BW-K6"], invalid),
    Case::new("bandwidth/any_burst_is_kept_at_any_rate", &["BW-R4", "BW-B4"], bursts),
    Case::new("bandwidth/subnets_have_filters_of_their_family", &["BW-K4"], subnets),
    Case::new("bandwidth/fair_queues_are_inside_the_shaper", &["BW-K5"], fair).needs(&[Need::FqCodel]),
    Case::new("bandwidth/a_routed_pair_is_shaped", &["BW-1"], routed),
    Case::new("bandwidth/an_interface_without_a_pair_is_named", &["BW-7"], no_pair).needs(&[Need::Macvlan]),
    Case::new("bandwidth/check_names_every_drift", &["C-043", "BW-5", "BW-B3"], drifts),
    Case::new("bandwidth/status_is_50_where_the_kernel_lacks_a_discipline", &["C-044", "BW-R2"], status),
];

/// 8 Mbit/s to the container and 16 from it, with a burst of 100,000 bytes.
pub fn both() -> Value {
    json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000})
}

/// A configuration with these keys and the previous plugin's result.
pub fn bandwidth(keys: &Value, previous: &Value) -> Value {
    let config = json!({"cniVersion": USUAL, "name": "net", "type": "bandwidth", "prevResult": previous});
    with(&config, keys.clone())
}

/// A container behind `br0` with these rates, its configuration, and the result.
pub fn shaped(room: &Room, id: &str, keys: &Value) -> Result<(Container, Value, Value)> {
    let (container, previous) = bridged(room, id)?;
    let config = bandwidth(keys, &previous);
    let result = call(room, "ADD", &container, &config)?.result()?;
    Ok((container, config, result))
}

pub fn call(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<Answer> {
    room.attach("bandwidth", verb, container).config(config).run()
}

/// A call of the reference's plugin.
pub fn reference<'r>(room: &'r Room, verb: &str, container: &Container, config: &Value) -> Call<'r> {
    Call::new(room, room.reference.join("bandwidth"))
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", &room.reference)
        .env("CNI_CONTAINERID", &container.id)
        .env("CNI_NETNS", &container.path)
        .env("CNI_IFNAME", "eth0")
        .config(config)
}

/// The host's end in a configuration's previous result.
pub fn veth(config: &Value) -> Result<String> {
    let links = config["prevResult"]["interfaces"].as_array().into_iter().flatten();
    let mut names = links.filter_map(|link| link["name"].as_str());
    let name = names.find(|name| name.starts_with("veth")).context("no host veth in prevResult")?;
    Ok(name.to_owned())
}

/// The IFB link of a result, if it has one.
pub fn ifb(result: &Value) -> Option<String> {
    let mut links = result["interfaces"].as_array().into_iter().flatten();
    let name = links.find_map(|link| link["name"].as_str().filter(|name| name.starts_with("bwp")))?;
    Some(name.to_owned())
}

/// The configured disciplines of a link, as `tc` prints them.
pub fn qdiscs(link: &str) -> Result<Vec<String>> {
    let text = ip::output("tc", &["-d", "qdisc", "show", "dev", link])?;
    Ok(text.lines().filter(|line| !line.contains(" 0: ")).map(str::to_owned).collect())
}

/// The settings of a link's token bucket.
pub fn bucket(link: &str) -> Result<String> {
    let all = qdiscs(link)?;
    let root =
        all.iter().find(|line| line.starts_with("qdisc tbf")).with_context(|| format!("{link}: {all:?}"))?;
    let settings = root.split_once(" rate ").and_then(|(_, rest)| rest.split_once(" linklayer"));
    Ok(settings.with_context(|| root.clone())?.0.to_owned())
}

/// Runs a `tc` command, with words separated by spaces.
pub fn tc(command: &str) -> Result<()> {
    ip::output("tc", &command.split_whitespace().collect::<Vec<_>>()).map(drop)
}

fn as_reference(room: &Room) -> Result<()> {
    let seen = |config: &Value, result: &Value| -> Result<Vec<String>> {
        let (veth, ifb) = (veth(config)?, ifb(result).context("no ifb")?);
        let link = ip::link(None, &ifb)?.context("no ifb link")?;
        let filters = ip::output("tc", &["filter", "show", "dev", &veth, "ingress"])?;
        let last = result["interfaces"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        ensure!(last == json!({"name": ifb, "mac": link["address"]}), "{result}");
        ensure!(filters.contains(&format!("Egress Redirect to device {ifb}")), "{filters}");
        Ok(vec![
            bucket(&veth)?,
            bucket(&ifb)?,
            format!("{} {} {}", link["mtu"], link["flags"], link["txqlen"]),
            qdiscs(&veth)?.iter().filter(|line| line.contains("ingress")).cloned().collect(),
            filters.lines().find(|line| line.contains("match")).unwrap_or_default().to_owned(),
        ])
    };
    let (_, config, result) = shaped(room, "ours", &both())?;
    let ours = seen(&config, &result)?;
    let (container, previous) = bridged(room, "theirs")?;
    let config = bandwidth(&both(), &previous);
    let result = reference(room, "ADD", &container, &config).run()?.result()?;
    let theirs = seen(&config, &result)?;
    ensure!(ours == theirs, "ours: {ours:#?}, theirs: {theirs:#?}");
    ensure!(ours[0] == "8Mbit burst 100000b/1 mpu 0b lat 25ms", "{ours:?}");
    Ok(())
}

fn versions(room: &Room) -> Result<()> {
    for version in VERSIONS {
        let container = room.container(&format!("v{version}"))?;
        let network = bridge(version);
        let previous = room.attach("bridge", "ADD", &container).config(&network).run()?.result()?;
        let config = with(&bandwidth(&both(), &previous), json!({"cniVersion": version}));
        let answer = call(room, "ADD", &container, &config)?;
        if version < "0.3.0" {
            answer.error_code(1)?;
        } else {
            let result = answer.result()?;
            ensure!(result["cniVersion"] == version && ifb(&result).is_some(), "{version}: {result}");
            ensure!(result["ips"] == previous["ips"], "{version}: {result}");
        }
        if version >= "0.3.0" {
            call(room, "DEL", &container, &config)?.silent()?;
        }
        room.attach("bridge", "DEL", &container).config(&network).run()?.silent()?;
    }
    Ok(())
}

fn nothing(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = room.snapshot()?;
    for keys in [
        json!({}),
        json!({"ingressRate": 0}),
        json!({"runtimeConfig": {"bandwidth": {}}}),
        json!({"runtimeConfig": {"bandwidth": {"egressRate": 0, "egressBurst": 0}}}),
    ] {
        let config = bandwidth(&keys, &previous);
        let result = call(room, "ADD", &container, &config)?.result()?;
        ensure!(
            result["ips"] == previous["ips"] && result["interfaces"] == previous["interfaces"],
            "{result}"
        );
        call(room, "CHECK", &container, &config)?.silent()?;
        call(room, "DEL", &container, &config)?.silent()?;
        room.ensure_unchanged(&before, &format!("with {keys}"))?;
    }
    for keys in [json!({}), both()] {
        let config = with(&bandwidth(&keys, &previous), json!({"prevResult": null}));
        call(room, "ADD", &container, &config)?.error_with(7, "must be called as chained plugin")?;
        call(room, "CHECK", &container, &config)?.error_with(7, "must be called as a chained plugin")?;
    }
    room.ensure_unchanged(&before, "without a previous result")
}

fn precedence(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let link = veth(&bandwidth(&json!({}), &previous))?;
    let runtime =
        json!({"runtimeConfig": {"bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000}}});
    for (keys, expected) in [
        (json!({}), Some("8Mbit burst 100000b/1 mpu 0b lat 25ms")),
        (json!({"ingressRate": 16_000_000}), Some("16Mbit burst 100000b/1 mpu 0b lat 25ms")),
        // 50 ms of 80 kbit/s are less than ten packets.
        (json!({"ingressRate": 80_000}), Some("80Kbit burst 15000b/1 mpu 0b lat 25ms")),
        (json!({"egressBurst": 0}), None),
    ] {
        let config = bandwidth(&with(&runtime, keys.clone()), &previous);
        call(room, "ADD", &container, &config)?.result()?;
        let found = bucket(&link).ok();
        let is_right = match expected {
            Some(expected) => found.as_deref() == Some(expected),
            // Nothing is changed without rates.
            None => found.is_some(),
        };
        ensure!(is_right, "{keys}: {found:?}");
        call(room, "CHECK", &container, &config)?.silent()?;
    }
    Ok(())
}

fn invalid(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = room.snapshot()?;
    for (keys, text) in [
        (json!({"ingressBurst": 8}), "if burst is set, rate must also be set"),
        (json!({"egressRate": 8, "strictBurst": true}), "if rate is set, burst must also be set"),
        (json!({"egressRate": 1}), "less than a byte per second"),
        (json!({"egressRate": 8, "egressBurst": 34_359_738_360u64}), "burst cannot be more than 4GB"),
        (json!({"egressRate": 8, "shapedSubnets": ["10.0.0.0"]}), "shapedSubnets: bad subnet 10.0.0.0"),
        (
            json!({"egressRate": 8, "shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]}),
            "exclude each other",
        ),
    ] {
        let config = bandwidth(&keys, &previous);
        call(room, "ADD", &container, &config)?.error_with(7, text)?;
        call(room, "CHECK", &container, &config)?.error_with(7, text)?;
        call(room, "DEL", &container, &config)?.silent()?;
    }
    room.ensure_unchanged(&before, "after refused values")
}

/// Rates above 2^32 bytes per second; bursts that last less than a microsecond, and longer than the
/// kernel's number of ticks.
fn bursts(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    for (rate, burst, expected) in [
        (100_000_000_000u64, 1_000_000_000u64, "100Gbit burst 125000000b/1 mpu 0b lat 25ms"),
        // `tc` shows whole microseconds.
        (100_000_000_000, 80_000, "100Gbit burst"),
        (100_000_000_000, 34_359_738_352, "100Gbit burst 4294"),
        (1_000_000_000_000, 0, "1Tbit burst"),
        (1_000_000, 80_000_000, "1Mbit burst 10000000b/1 mpu 0b lat 25ms"),
        // Half an hour. `tc` shows the number of ticks, so what exceeds it is seen by the queue's
        // limit, which is the burst and 25 ms.
        (1_000_000, 2_147_483_647, "1Mbit burst"),
        // A packet always passes.
        (1_000_000, 8, "1Mbit burst 1522b/1 mpu 0b lat 25ms"),
    ] {
        let keys = json!({"ingressRate": rate, "ingressBurst": burst});
        let config = bandwidth(&keys, &previous);
        call(room, "ADD", &container, &config)?.result().with_context(|| keys.to_string())?;
        let found = bucket(&veth(&config)?)?;
        ensure!(found.starts_with(expected), "{keys}: {found}");
        call(room, "CHECK", &container, &config)?.silent().with_context(|| keys.to_string())?;
        let other = with(&config, json!({"ingressBurst": burst.max(8_000_000) / 2}));
        call(room, "CHECK", &container, &other)?.refused("burst of").with_context(|| keys.to_string())?;
    }
    Ok(())
}

fn subnets(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    for (key, default, flow) in
        [("unshapedSubnets", "default 0x1", ":"), ("shapedSubnets", "default 0 ", ":1")]
    {
        let mut keys = both();
        keys[key] = json!(["10.1.2.0/24", "2001:db8:1::/64"]);
        let config = bandwidth(&keys, &previous);
        let result = call(room, "ADD", &container, &config)?.result()?;
        let (veth, ifb) = (veth(&config)?, ifb(&result).context("no ifb")?);
        for (link, offsets) in [(&veth, [12, 8, 12]), (&ifb, [16, 24, 28])] {
            let root = qdiscs(link)?.join("; ");
            ensure!(
                root.contains("htb") && root.contains(default) && root.contains("bfifo"),
                "{link}: {root}"
            );
            let filters = ip::output("tc", &["filter", "show", "dev", link])?;
            for (bits, at) in
                ["0a010200/ffffff00", "20010db8/ffffffff", "00010000/ffffffff"].iter().zip(offsets)
            {
                ensure!(filters.contains(&format!("match {bits} at {at}")), "{link}: {filters}");
            }
            let flows = filters.lines().filter(|line| line.contains("flowid"));
            for line in flows {
                ensure!(line.contains(&format!("{flow} not_in_hw")), "{link}: {line}");
            }
        }
        call(room, "CHECK", &container, &config)?.silent()?;
        let other = with(&config, json!({key: ["10.1.2.0/24"]}));
        call(room, "CHECK", &container, &other)?.refused("shaped subnets of")?;
    }
    Ok(())
}

fn fair(room: &Room) -> Result<()> {
    let (container, config, result) = shaped(room, "c1", &with(&both(), json!({"fqCodel": true})))?;
    for link in [veth(&config)?, ifb(&result).context("no ifb")?] {
        let all = qdiscs(&link)?.join("; ");
        ensure!(
            all.contains("tbf") && all.contains("fq_codel") && all.contains("target 5ms"),
            "{link}: {all}"
        );
    }
    call(room, "CHECK", &container, &config)?.silent()?;
    let plain = with(&config, json!({"fqCodel": false}));
    call(room, "CHECK", &container, &plain)?.refused("queue of")?;
    call(room, "ADD", &container, &plain)?.result()?;
    call(room, "CHECK", &container, &plain)?.silent()?;
    call(room, "CHECK", &container, &config)?.refused("queue of")?;
    call(room, "DEL", &container, &config)?.silent()
}

fn routed(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("ptp", "ADD", &container).config(&ptp(USUAL)).run()?.result()?;
    let config = bandwidth(&both(), &previous);
    let result = call(room, "ADD", &container, &config)?.result()?;
    bucket(&veth(&config)?)?;
    bucket(&ifb(&result).context("no ifb")?)?;
    call(room, "CHECK", &container, &config)?.silent()?;
    room.reach("c1", "10.1.2.1")?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.attach("ptp", "DEL", &container).config(&ptp(USUAL)).run()?.silent()
}

fn no_pair(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let other = room.container("other")?;
    let previous = json!({"cniVersion": USUAL, "interfaces": [{"name": "eth0", "sandbox": container.path}]});
    let config = bandwidth(&both(), &previous);
    let refused = |text: &str| {
        let before = room.snapshot()?;
        call(room, "ADD", &container, &config)?.error_with(999, text)?;
        call(room, "DEL", &container, &config)?.silent()?;
        room.ensure_unchanged(&before, text)
    };
    refused("container interface eth0 has no veth peer")?;
    ip::script(
        Some("c1"),
        "link add low0 type veth peer name low1\n link add link low0 name eth0 type macvlan",
    )?;
    refused("container interface eth0 has no veth peer: it is a macvlan")?;
    ip::script(Some("c1"), "link del eth0\n link add eth0 type veth peer name far0")?;
    refused("is not in host ns")?;
    ip::run_in("c1", &["link", "set", "far0", "netns", &other.path.display().to_string()])?;
    refused("is not in host ns")
}

fn drifts(room: &Room) -> Result<()> {
    let (container, config, result) = shaped(room, "c1", &both())?;
    let (veth, ifb) = (veth(&config)?, ifb(&result).context("no ifb")?);
    let checked = |config: &Value| call(room, "CHECK", &container, config);
    checked(&config)?.silent()?;
    for (keys, text) in [
        (json!({"ingressRate": 8_000_008}), "rate of veth"),
        (json!({"ingressBurst": 800_800}), "burst of veth"),
        (json!({"egressRate": 8_000_000}), "rate of bwp"),
        (json!({"egressBurst": 1_600_000}), "queue limit of bwp"),
        (json!({"shapedSubnets": ["10.0.0.0/8"]}), "expected htb, actual tbf"),
    ] {
        checked(&with(&config, keys))?.refused(text)?;
    }
    for (change, text) in [
        (format!("qdisc change dev {veth} root tbf rate 8mbit burst 50000 limit 125000"), "burst of veth"),
        // The reference looks no further than the first discipline of another kind.
        (format!("qdisc replace dev {veth} root handle 7: htb"), "expected tbf, actual htb"),
        (format!("qdisc del dev {veth} root"), "expected tbf, actual none"),
        (format!("qdisc del dev {ifb} root"), "queueing discipline of bwp"),
        (format!("filter del dev {veth} ingress"), "redirection of packets from veth"),
        (format!("qdisc del dev {veth} ingress"), "redirection of packets from veth"),
    ] {
        tc(&change).with_context(|| change.clone())?;
        checked(&config)?.refused(text).with_context(|| change.clone())?;
        if change.contains("htb") {
            tc(&format!("qdisc del dev {veth} root"))?;
        }
        call(room, "ADD", &container, &config)?.result()?;
        checked(&config)?.silent().with_context(|| format!("ADD after {change}"))?;
    }
    ip::run(&["link", "set", &ifb, "down"])?;
    checked(&config)?.refused("state of bwp")?;
    ip::run(&["link", "del", &ifb])?;
    checked(&config)?.refused("expected present, actual missing")?;
    call(room, "ADD", &container, &config)?.result()?;
    checked(&config)?.silent()
}

fn status(room: &Room) -> Result<()> {
    let config =
        |keys: Value| with(&json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth"}), keys);
    let before = room.snapshot()?;
    let status = |keys| room.call("bandwidth", "STATUS").config(&config(keys)).run();
    status(json!({}))?.silent()?;
    status(json!({"shapedSubnets": ["10.0.0.0/8"]}))?.silent()?;
    let fair = status(json!({"fqCodel": true}))?;
    // On a kernel that has it.
    if !fair.succeeded() {
        fair.error_with(50, "fq_codel")?;
    }
    room.ensure_unchanged(&before, "after STATUS")?;
    status(json!({"ingressBurst": 8}))?.error_with(7, "rate must also be set").map(drop)
}
