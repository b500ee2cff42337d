use crate::{AddResult, Attachment, Env, IpConfig, Request, ValidAttachments, Version, parse_cidr};

fn env(command: &str) -> Env {
    let good = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "MAC=a;IP=b"),
        ("CNI_PATH", "/none"),
    ];
    Env::from_iter(good)
}

const CONF: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"fake"}"#;

/// C-120, C-121
#[test]
fn prev_result_is_read_by_the_configurations_version() {
    let read = |version: &str, prev: &str| {
        let stdin = format!(r#"{{"name":"n","cniVersion":"{version}","prevResult":{prev}}}"#);
        Request::parse(&env("ADD"), stdin).unwrap().prev_result()
    };
    assert_eq!(read("1.0.0", "null").unwrap(), None);
    assert_eq!(Request::parse(&env("ADD"), CONF).unwrap().prev_result().unwrap(), None);
    assert_eq!(read("1.0.0", "{}").unwrap(), Some(AddResult::default()));
    assert_eq!(read("0.2.0", "{}").unwrap(), Some(AddResult::default()));
    let ip = IpConfig { interface: None, address: parse_cidr("10.0.0.2/24").unwrap(), gateway: None };
    let result = AddResult { ips: vec![ip], ..AddResult::default() };
    let ips = r#""ips":[{"address":"10.0.0.2/24"}]"#;
    for (version, prev) in [("1.0.0", "1.1.0"), ("1.1.0", "1.0.0"), ("0.4.0", "0.3.0"), ("1.0.0", "")] {
        let got = read(version, &format!(r#"{{"cniVersion":"{prev}",{ips}}}"#)).unwrap().unwrap();
        assert_eq!(got, result);
    }
    assert_eq!(read("0.4.0", &format!("{{{ips}}}")).unwrap().unwrap().ips.len(), 1);
    assert_eq!(
        read("1.0.0", r#"{"cniVersion":"0.4.0"}"#).unwrap_err().msg,
        "could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled CNIVersion is \"0.4.0\""
    );
    assert_eq!(
        read("0.2.0", r#"{"cniVersion":"9"}"#).unwrap_err().msg,
        "could not parse prevResult: unsupported CNI result version \"9\""
    );
    for odd in ["5", "[]", "\"x\"", r#"{"ips":{}}"#, r#"{"ips":[{"address":"x"}]}"#] {
        let error = read("1.1.0", odd).unwrap_err();
        assert!(error.code == 999 && error.msg.starts_with("could not parse prevResult: "), "{}", error.msg);
    }
    for (odd, path) in [
        ("5", "prevResult: "),
        (r#"{"cniVersion":1}"#, "prevResult.cniVersion: "),
        (r#"{"ips":[{"address":7}]}"#, "prevResult.ips[0].address: "),
    ] {
        let error = read("1.1.0", odd).unwrap_err();
        assert!(error.msg.contains(path), "{}", error.msg);
    }
}

/// C-046
#[test]
fn a_missing_valid_set_differs_from_an_empty_one() {
    let read = |member: &str| {
        let stdin = format!(r#"{{"name":"n","cniVersion":"1.1.0"{member}}}"#);
        Request::parse(&env("GC"), stdin).unwrap().valid_attachments()
    };
    let these = |pairs: &[(&str, &str)]| {
        let own =
            |(id, ifname): &(&str, &str)| Attachment { container_id: (*id).into(), ifname: (*ifname).into() };
        ValidAttachments::Only(pairs.iter().map(own).collect())
    };
    let one = r#"[{"containerID":"a","ifname":"eth0"}]"#;
    assert_eq!(read("").unwrap(), ValidAttachments::NotGiven);
    assert_eq!(read(&format!(r#","cni.dev/attachments":{one}"#)).unwrap(), ValidAttachments::NotGiven);
    for empty in ["null", "[]"] {
        let both = format!(r#","cni.dev/valid-attachments":{empty},"cni.dev/attachments":{one}"#);
        assert_eq!(read(&both).unwrap(), these(&[]));
    }
    let valid = read(&format!(r#","cni.dev/valid-attachments":{one},"cni.dev/attachments":null"#)).unwrap();
    assert_eq!(valid, these(&[("a", "eth0")]));
    // An entry that is not read would be collected.
    for odd in
        ["5", "{}", "[5]", "[null]", r#"[{"containerID":"a"}]"#, r#"[{"containerID":"","ifname":"b"}]"#]
    {
        let error = read(&format!(r#","cni.dev/valid-attachments":{odd}"#)).unwrap_err();
        assert!(error.msg.contains("cni.dev/valid-attachments"), "{}", error.msg);
    }
}

/// C-027, C-028
#[test]
fn a_wrong_type_in_the_configuration_is_code_999() {
    #[derive(Debug, serde::Deserialize)]
    struct Conf {
        ipam: Option<Ipam>,
    }
    #[derive(Debug, serde::Deserialize)]
    struct Ipam {
        #[serde(default, deserialize_with = "crate::de::cidr")]
        subnet: Option<ipnetwork::IpNetwork>,
        #[serde(default, deserialize_with = "crate::de::ip")]
        gateway: Option<std::net::IpAddr>,
    }
    let read = |ipam: &str| {
        Request::parse(&env("ADD"), format!(r#"{{"name":"n","IPAM":{ipam}}}"#)).unwrap().config::<Conf>()
    };
    for absent in ["{}", r#"{"subnet":"","gateway":null}"#, r#"{"Gateway":"","x":{}}"#] {
        let ipam = read(absent).unwrap().ipam.unwrap();
        assert_eq!((ipam.subnet, ipam.gateway), (None, None));
    }
    let ipam = read(r#"{"subnet":"10.0.0.5/8","GATEWAY":"fd00::1"}"#).unwrap().ipam.unwrap();
    assert_eq!(ipam.subnet.unwrap().to_string(), "10.0.0.5/8");
    assert_eq!(ipam.gateway.unwrap().to_string(), "fd00::1");
    for (ipam, why) in [
        (r#"{"subnet":5}"#, "ipam.subnet: expected a string, found number 5"),
        (r#"{"subnet":"10.0.0.0"}"#, "ipam.subnet: invalid CIDR address: 10.0.0.0"),
        (r#"{"gateway":"010.0.0.1"}"#, "ipam.gateway: invalid IP address: 010.0.0.1"),
        ("[]", "ipam: expected an object, found array"),
    ] {
        let error = read(ipam).unwrap_err();
        assert_eq!((error.code, error.msg), (999, format!("failed to load netconf: {why}")));
    }
}

#[test]
fn a_request_keeps_its_input() {
    let stdin = format!("  {CONF}\n");
    let request = Request::parse(&env("ADD"), stdin.as_str()).unwrap();
    assert_eq!(request.stdin(), stdin.as_bytes());
    assert_eq!((request.network.as_str(), request.version), ("net", Version::V1_1_0));
    assert_eq!((request.container_id.as_str(), request.ifname.as_str()), ("c1", "eth0"));
    assert_eq!((request.netns.as_str(), request.path.as_str()), ("/run/netns/none", "/none"));
    assert_eq!(request.args(&["MAC", "IP"]).unwrap().len(), 2);
    assert_eq!(request.args(&["MAC"]).unwrap_err().msg, "ARGS: unknown args [\"IP=b\"]");
}
