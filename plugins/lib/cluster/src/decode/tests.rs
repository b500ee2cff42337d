use super::*;
use crate::key::Endpoint;

const HOST: &str = "00112233aabbccdd";

fn endpoint(value: &str) -> Result<Record, Fault> {
    let key = Endpoint {
        network: "front".into(),
        host: HOST.into(),
        container: "c1".into(),
        ifname: "eth0".into(),
    };
    decode(&Key::Endpoint(key), value.as_bytes())
}

#[test]
fn the_samples_of_the_layout_are_read_and_written_as_they_are() {
    let network = "front".to_owned();
    let host = HOST.to_owned();
    for (key, value) in [
        (Key::Meta, r#"{"v":1,"cluster":"9f3c","protocol":1,"port":4789,"encryptedPort":4790}"#),
        (
            Key::Host(host.clone()),
            r#"{"v":1,"name":"node-a","addresses":["192.0.2.11"],"mtu":1500,"agent":"0.9.0","protocol":1}"#,
        ),
        (Key::Alive(host.clone()), r#"{"v":1,"boot":"b-1"}"#),
        (Key::Silent(host.clone()), r#"{"v":1,"since":"2026-11-28T23:00:00Z"}"#),
        (Key::Grace(host.clone()), r#"{"v":1}"#),
        (
            Key::Net(network.clone()),
            r#"{"v":1,"vni":7143425,"subnets":["10.9.0.0/16"],"gateways":["10.9.0.1"],"blockSize":64,"mtu":1450,"encrypted":false,"multicast":false,"internal":false}"#,
        ),
        (Key::Vni(crate::VNI_FIRST), r#"{"v":1,"network":"front"}"#),
        (
            Key::Block { network: network.clone(), first: "10.9.0.64".parse().unwrap() },
            r#"{"v":1,"host":"00112233aabbccdd"}"#,
        ),
        (
            Key::Lent { network: network.clone(), address: "10.9.0.66".parse().unwrap() },
            r#"{"v":1,"from":"services","to":"web"}"#,
        ),
        (
            Key::Own { network: network.clone(), host: host.clone() },
            r#"{"v":1,"ips":["10.9.0.65"],"mac":"02:6d:0a:09:00:41"}"#,
        ),
        (Key::Ask { network, address: None, host }, r#"{"v":1}"#),
    ] {
        let record = decode(&key, value.as_bytes()).unwrap();
        let written = match &record {
            Record::Meta(record) => encode(record),
            Record::Host(record) => encode(record),
            Record::Alive(record) => encode(record),
            Record::Silent(record) => encode(record),
            Record::Grace(record) => encode(record),
            Record::Net(record) => encode(record),
            Record::Vni(record) => encode(record),
            Record::Block(record) => encode(record),
            Record::Lent(record) => encode(record),
            Record::Own(record) => encode(record),
            Record::Ask(record) => encode(record),
            Record::Endpoint(record) => encode(record),
        };
        assert_eq!(String::from_utf8(written).unwrap(), value);
    }
}

const GOOD: &str = r#"{"v":1,"ips":["10.9.0.66","fd00:9::42"],"mac":"02:6d:0a:09:00:42","names":["web-1","web"],"drained":false,"later":[{}]}"#;

#[test]
fn an_endpoint_with_members_of_a_later_release_is_read() {
    let Ok(Record::Endpoint(record)) = endpoint(GOOD) else { panic!("not read") };
    assert_eq!((record.ips.len(), record.names.len()), (2, 2));
}

/// O-078: each bound of a record holds by itself.
#[test]
fn a_record_outside_its_bounds_is_left_out_with_a_reason() {
    let names = |count: usize| (0..count).map(|n| format!("\"n{n}\"")).collect::<Vec<_>>().join(",");
    assert!(endpoint(&GOOD.replace("\"web-1\"", &names(63))).is_ok());
    for (from, to) in [
        ("\"v\":1", "\"v\":2"),
        ("\"v\":1", "\"v\":-1"),
        ("\"v\":1,", ""),
        ("[\"10.9.0.66\",\"fd00:9::42\"]", "[]"),
        ("fd00:9::42", "10.9.0.66"),
        ("fd00:9::42", "::ffff:10.9.0.67"),
        ("fd00:9::42", "fe80::1%eth0"),
        ("fd00:9::42", "ff02::1"),
        ("10.9.0.66", "224.0.0.1"),
        ("10.9.0.66", "255.255.255.255"),
        ("10.9.0.66", "0.0.0.0"),
        ("10.9.0.66", "127.0.0.1"),
        ("10.9.0.66", "10.9.0.066"),
        ("02:6d:0a:09:00:42", "01:00:5e:00:00:01"),
        ("02:6d:0a:09:00:42", "00:00:00:00:00:00"),
        ("02:6d:0a:09:00:42", "02:6D:0a:09:00:42"),
        ("\"web-1\"", "\"Web-1\""),
        ("\"web-1\"", "\"web-1.\""),
        ("\"web-1\"", "\"a/../b\""),
        ("\"web-1\"", "\"10.0.0.1\""),
        ("\"web-1\"", "\"\""),
        ("\"web-1\"", &names(64)),
        ("false", "0"),
        ("{", "[{"),
    ] {
        let value = GOOD.replacen(from, to, 1);
        assert!(endpoint(&value).is_err(), "{value}");
    }
    assert_eq!(endpoint(&GOOD.replacen("\"v\":1", "\"v\":2", 1)), Err(Fault::Version(2)));
    // A later version may be of another shape.
    assert_eq!(endpoint(r#"{"v":3,"ips":{"a":1}}"#), Err(Fault::Version(3)));
    let long = format!("{}{}", GOOD, " ".repeat(crate::VALUE_MAX));
    assert_eq!(endpoint(&long), Err(Fault::ValueTooLong));
    let deep = "[".repeat(crate::VALUE_MAX);
    assert!(matches!(endpoint(&deep), Err(Fault::Json(_))));
    let Err(Fault::Json(why)) = endpoint(&format!("\"{}\"", "x\u{7}".repeat(9000))) else { panic!("read") };
    assert!(why.len() < 500 && !why.contains('\u{7}'));
}

/// A wish may have 0 for any VXLAN id and MTU; a record has what was chosen.
#[test]
fn a_networks_record_has_its_vxlan_id_and_mtu() {
    let net = |rest: &str| {
        let value =
            format!(r#"{{"v":1,"subnets":["10.9.0.0/16"],"gateways":["10.9.0.1"],"blockSize":64{rest}}}"#);
        decode(&Key::Net("front".into()), value.as_bytes())
    };
    assert!(net("").is_ok() && net(r#","vni":7143425,"mtu":1450"#).is_ok());
    for rest in [
        r#","vni":7143425"#,
        r#","mtu":1450"#,
        r#","vni":7143425,"mtu":0"#,
        r#","vni":0,"mtu":1450"#,
        r#","vni":7208960,"mtu":1450"#,
        r#","vni":7143425,"mtu":70000"#,
    ] {
        assert!(net(rest).is_err(), "{rest}");
    }
}

#[test]
fn a_host_needs_an_address_that_others_can_send_to() {
    let host = |addresses: &str| {
        let value =
            format!(r#"{{"v":1,"name":"a","addresses":{addresses},"mtu":1500,"agent":"1","protocol":1}}"#);
        decode(&Key::Host(HOST.into()), value.as_bytes())
    };
    assert!(host(r#"["192.0.2.1","2001:db8::1"]"#).is_ok());
    for addresses in [
        "[]",
        r#"["192.0.2.1","192.0.2.2"]"#,
        r#"["fe80::1"]"#,
        r#"["127.0.0.1"]"#,
        r#"["0.0.0.1"]"#,
        r#"["239.1.1.1"]"#,
    ] {
        assert!(host(addresses).is_err(), "{addresses}");
    }
}
