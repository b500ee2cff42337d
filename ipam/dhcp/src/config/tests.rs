use super::*;

fn settings_with(ipam: &str, args: &str) -> Result<Settings, ConfigError> {
    let conf: Conf = serde_json::from_str(&format!("{{\"ipam\":{ipam}}}")).unwrap();
    conf.check(&Identity { network: "net", container_id: "c1", ifname: "eth0", args })
}

fn settings(ipam: &str) -> Result<Settings, ConfigError> {
    settings_with(ipam, "")
}

#[test]
fn nothing_but_the_type_is_needed() {
    let settings = settings(r#"{"type":"dhcp"}"#).unwrap();
    assert_eq!(settings.socket, PathBuf::from(SOCKET));
    assert_eq!(settings.ask.client_id, b"\0c1/net/eth0");
    assert_eq!(settings.ask.wanted, WANTED);
    assert_eq!((settings.priority, settings.timeout, settings.ipv6), (None, None, None));
    assert_eq!(settings.probe, Duration::from_millis(100));
    let none: Conf = serde_json::from_str("{}").unwrap();
    let identity = Identity { network: "net", container_id: "c1", ifname: "eth0", args: "" };
    assert_eq!(none.check(&identity), Err(ConfigError::NoIpam));
}

#[test]
fn a_client_identifier_is_cut_at_254_bytes_and_can_be_provided() {
    let long = client_id(&"c".repeat(300), "net", "eth0");
    assert_eq!((long.len(), long[0]), (255, 0));
    let own = settings(r#"{"provide":[{"option":"61","value":"mine"}]}"#).unwrap();
    assert_eq!(own.ask.client_id, b"mine");
    assert!(own.ask.provide.is_empty());
}

#[test]
fn options_are_provided_by_value_and_by_argument() {
    let ipam = r#"{"provide":[
        {"option":"host-name","fromArg":"K8S_POD_NAME"},
        {"option":"vendor-class-identifier","value":"a","fromArg":"K8S_POD_NAME"},
        {"option":"60","value":"b"},
        {"option":"user-class","fromArg":"absent"}]}"#;
    let options = settings_with(ipam, "IgnoreUnknown=1;K8S_POD_NAME=pod=1").unwrap().ask.provide;
    assert_eq!(options, [(12, b"pod=1".to_vec()), (60, b"b".to_vec())]);
}

#[test]
fn ipv6_is_off_autoconfigured_or_leased() {
    let of = |ipam: &str| settings(ipam).unwrap().ipv6;
    assert_eq!((of(r#"{"ipv6":"off"}"#), of(r#"{"ipv6":""}"#)), (None, None));
    assert_eq!(of(r#"{"ipv6":"slaac"}"#), Some(Ipv6::Slaac));
    assert_eq!(of(r#"{"ipv6":"dhcpv6"}"#), Some(Ipv6::Dhcp { prefix: false }));
    assert_eq!(of(r#"{"ipv6":"dhcpv6","prefixDelegation":true}"#), Some(Ipv6::Dhcp { prefix: true }));
}

#[test]
fn requested_options_come_first() {
    let listed = |ipam: &str| settings(ipam).unwrap().ask.wanted;
    let mut all = vec![66, 3];
    all.extend(WANTED.iter().filter(|code| **code != 3));
    assert_eq!(listed(r#"{"request":[{"option":"66"},{"option":"routers"},{"option":"66"}]}"#), all);
    assert_eq!(listed(r#"{"request":[{"option":"1","skipDefault":true}]}"#), [1]);
    assert_eq!(listed(r#"{"request":[{"skipDefault":true}]}"#), WANTED);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let long = "x".repeat(256);
    for (ipam, error) in [
        (r#"{"provide":[{"option":"odd","value":"x"}]}"#.to_owned(), "Can not parse option"),
        (r#"{"request":[{"option":"256"}]}"#.to_owned(), "Can not parse option"),
        (r#"{"provide":[{"option":"53","value":"x"}]}"#.to_owned(), "option 53"),
        (format!(r#"{{"provide":[{{"option":"12","value":"{long}"}}]}}"#), "256 bytes"),
        (r#"{"priority":-1}"#.to_owned(), "priority"),
        (r#"{"timeout":0}"#.to_owned(), "timeout"),
        (r#"{"ipv6":"on"}"#.to_owned(), "must be off, slaac or dhcpv6"),
        (r#"{"ipv6":"slaac","prefixDelegation":true}"#.to_owned(), "prefixDelegation needs"),
        (r#"{"probeTimeoutMs":10001}"#.to_owned(), "probeTimeoutMs 10001"),
        (r#"{"daemonSocketPath":"run/dhcp.sock"}"#.to_owned(), "daemonSocketPath"),
    ] {
        let text = settings(&ipam).unwrap_err().to_string();
        assert!(text.contains(error), "{ipam}: {text}");
    }
    let many: Vec<String> =
        (100..110).map(|code| format!(r#"{{"option":"{code}","value":"{}"}}"#, "x".repeat(200))).collect();
    let many = format!(r#"{{"provide":[{}]}}"#, many.join(","));
    assert_eq!(settings(&many), Err(ConfigError::TooLong));
}
