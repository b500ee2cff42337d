//! Configurations, and plans compared with golden files; needs neither root nor kernel.

use cni::{Error, Request, testing};
use host::Owner;
use host::piece::{Packets, Piece};

use crate::config::{Config, Rate};
use crate::plan::{self, Facts};

fn request(keys: &str) -> Request {
    testing::add_with("bandwidth", keys, "")
}

fn config(keys: &str) -> Config {
    Config::of(&request(keys)).unwrap()
}

fn refusal(keys: &str) -> Error {
    Config::of(&request(keys)).unwrap_err()
}

fn pieces(keys: &str, mtu: u32) -> Vec<Piece> {
    let owner = Owner::new("net", "c1", "eth0");
    let facts = Facts { owner: &owner, veth: "veth1".into(), mtu, ifb: "bwp623e1c388032".into() };
    plan::plan(&config(keys), &facts)
}

/// The plan, one piece per line.
fn plan_of(keys: &str) -> String {
    pieces(keys, 1500).iter().map(|piece| format!("{piece:?}\n")).collect()
}

#[test]
fn both_directions_are_shaped() {
    let keys =
        r#""ingressRate": 8000000, "ingressBurst": 800000, "egressRate": 16000000, "egressBurst": 800000"#;
    testing::golden("bandwidth", "both", &plan_of(keys));
}

#[test]
fn subnets_and_queues_are_planned() {
    let keys = r#""egressRate": 8000000, "fqCodel": true, "unshapedSubnets": ["10.0.0.0/8", "fd00::/8"]"#;
    testing::golden("bandwidth", "subnets", &plan_of(keys));
    assert_eq!(config(r#""shapedSubnets": []"#).packets, Packets::All);
}

/// BW-K2
#[test]
fn a_key_of_the_configuration_overrides_the_runtimes() {
    let runtime = r#""runtimeConfig": {"bandwidth": {"ingressRate": 8000, "ingressBurst": 80}}"#;
    let rate = Some(Rate { rate: 1000, burst: Some(10) });
    assert_eq!(config(runtime).ingress, rate);
    assert_eq!(config(&format!(r#"{runtime}, "ingressRate": null"#)).ingress, rate);
    assert!(config(&format!(r#"{runtime}, "egressBurst": 0"#)).is_empty());
    let both = config(&format!(r#"{runtime}, "egressRate": 16000"#));
    assert_eq!((both.ingress, both.egress), (None, Some(Rate { rate: 2000, burst: None })));
    // Which packets have a rate, and how much, are questions of two people.
    let shaped = config(&format!(r#"{runtime}, "shapedSubnets": ["10.0.0.0/8"]"#));
    assert_eq!((shaped.ingress, shaped.packets), (rate, Packets::Only(vec!["10.0.0.0/8".parse().unwrap()])));
}

/// BW-K3
#[test]
fn a_burst_follows_from_the_rate() {
    let burst = |keys: &str, mtu| match pieces(keys, mtu).remove(0) {
        Piece::Shaper(shaper) => (shaper.burst, shaper.limit),
        other => panic!("{other:?}"),
    };
    assert_eq!(burst(r#""ingressRate": 8000000"#, 1500), (50_000, 75_000));
    assert_eq!(burst(r#""ingressRate": 80000"#, 1500), (15_000, 15_250));
    assert_eq!(burst(r#""ingressRate": 80000"#, 9000), (90_000, 90_250));
    assert_eq!(burst(r#""ingressRate": 80000, "ingressBurst": 80"#, 1500), (1522, 1772));
    let most = u32::MAX;
    assert_eq!(burst(r#""ingressRate": 18446744073709551615"#, 1500), (most, most));
}

#[test]
fn values_that_make_no_sense_are_refused() {
    for (keys, text) in [
        (r#""ingressBurst": 8"#, "if burst is set, rate must also be set"),
        (r#""egressRate": 8, "strictBurst": true"#, "if rate is set, burst must also be set"),
        (r#""egressRate": 7"#, "less than a byte"),
        (r#""egressRate": 8, "egressBurst": 34359738360"#, "burst cannot be more than 4GB"),
        (r#""shapedSubnets": ["10.0.0.1"]"#, "shapedSubnets: bad subnet 10.0.0.1"),
        (r#""shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]"#, "exclude each other"),
    ] {
        let error = refusal(keys);
        assert!(error.code == 7 && error.msg.contains(text), "{keys}: {error:?}");
    }
    assert_eq!(refusal(r#""ingressRate": -1"#).code, 999);
    let many = vec![r#""10.0.0.0/8""#; 129].join(",");
    assert_eq!(refusal(&format!(r#""unshapedSubnets": [{many}]"#)).code, 7);
}
