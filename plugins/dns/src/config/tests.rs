use cni::testing;

use super::*;

fn request(args: &str, keys: &str) -> Request {
    let mut request = testing::add_with("dns", keys, args);
    request.container_id = "0123456789abcdef".into();
    request
}

fn config(keys: &str) -> Result<Config, Error> {
    Config::of(&request("K8S_POD_NAME=Web", keys))
}

fn names(args: &str, keys: &str) -> Vec<String> {
    Config::of(&request(args, keys)).unwrap().names
}

fn refusal(keys: &str) -> (u32, String) {
    let error = config(keys).unwrap_err();
    (error.code, error.msg)
}

/// D-002: a map is read for this network only.
#[test]
fn aliases_are_one_list_or_one_per_network() {
    let list = config(r#""runtimeConfig":{"aliases":["www","API"]}"#).unwrap();
    let map = config(r#""runtimeConfig":{"aliases":{"net":["www","API"],"other":["x"]}}"#).unwrap();
    assert_eq!(list, map);
    assert_eq!(list.names, ["web", "www", "api", "0123456789ab"]);
    for none in ["{}", r#"{"other":["x"]}"#, "null", r#"{"net":null}"#, "[]"] {
        let keys = format!(r#""runtimeConfig":{{"aliases":{none}}}"#);
        assert_eq!(config(&keys).unwrap().names, ["web", "0123456789ab"], "{none}");
    }
    for odd in ["5", "\"www\"", "[5]", r#"{"net":"www"}"#, r#"{"net":[{}]}"#, "[[\"a\"]]"] {
        let (code, msg) = refusal(&format!(r#""runtimeConfig":{{"aliases":{odd}}}"#));
        assert!(code == 999 && msg.contains("aliases"), "{odd}: {msg}");
    }
}

/// D-007, D-008
#[test]
fn names_come_from_all_sources_and_unknown_arguments_are_ignored() {
    assert_eq!(names("", ""), ["0123456789ab"]);
    assert_eq!(names("K8S_POD_NAME=", ""), ["0123456789ab"]);
    for args in
        ["IP=1;K8S_POD_NAME=web;x=y=z", "K8S_POD_NAME=web;;junk", "IgnoreUnknown=maybe;K8S_POD_NAME=web"]
    {
        assert_eq!(names(args, "")[0], "web", "{args}");
    }
    let all = r#""args":{"cni":{"names":["n1","WEB"]}},"runtimeConfig":{"aliases":["a1"]}"#;
    assert_eq!(names("K8S_POD_NAME=web", all), ["web", "a1", "n1", "0123456789ab"]);
    assert_eq!(names("K8S_POD_NAME=web", r#""shortId":false"#), ["web"]);
    assert_eq!(names("", r#""shortId":false"#), ["0123456789ab"]);
}

/// D-009
#[test]
fn invalid_names_fail_the_request_or_are_ignored() {
    let alias = r#""runtimeConfig":{"aliases":["good","bad name\n10.9.9.9"]}"#;
    let (code, msg) = refusal(alias);
    assert!(code == 7 && msg.contains("runtimeConfig.aliases") && !msg.contains('\n'), "{msg}");
    let skip = format!(r#"{alias},"invalidNames":"skip""#);
    assert_eq!(config(&skip).unwrap().names, ["web", "good", "0123456789ab"]);
    let many: Vec<String> = (0..65).map(|n| format!("\"n{n}\"")).collect();
    assert_eq!(refusal(&format!(r#""runtimeConfig":{{"aliases":[{}]}}"#, many.join(","))).0, 7);
    let long = format!("\"{}\"", "a".repeat(17 << 10));
    assert!(
        refusal(&format!(r#""invalidNames":"skip","runtimeConfig":{{"aliases":[{long}]}}"#))
            .1
            .contains("bytes")
    );
}

#[test]
fn keys_have_their_defaults_and_bounds() {
    let config = config("").unwrap();
    assert_eq!(
        config,
        Config {
            names: vec!["web".into(), "0123456789ab".into()],
            domain: None,
            mode: None,
            port: 53,
            ttl: 0,
            cache: 512,
            internal: false,
            upstreams: None,
            own_upstreams: None,
            forward_single_label: true,
            cross_network: CrossNetwork::First,
            keep_nameservers: true,
            optional: false,
            state_dir: None,
        }
    );
    for (keys, part) in [
        (r#""mode":"macvlan""#, "invalid mode"),
        (r#""crossNetwork":"all""#, "invalid crossNetwork"),
        (r#""invalidNames":"x""#, "invalid invalidNames"),
        (r#""port":0"#, "invalid port 0"),
        (r#""port":65536"#, "invalid port 65536"),
        (r#""ttl":-1"#, "invalid ttl -1"),
        (r#""ttl":3601"#, "invalid ttl 3601"),
        (r#""cache":-1"#, "invalid cache -1: 0 to 4096"),
        (r#""cache":4097"#, "invalid cache 4097"),
        (r#""domainName":"a..b""#, "invalid domainName"),
        (r#""domainName":"a b""#, "invalid domainName"),
        (r#""stateDir":"x""#, "invalid stateDir"),
        (r#""upstreams":["x"]"#, "upstreams"),
        (r#""upstreams":["0.0.0.0"]"#, "upstreams"),
        (r#""upstreams":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]"#, "at most 3"),
    ] {
        let (code, msg) = refusal(keys);
        assert!(code == 7 && msg.contains(part), "{keys}: {msg}");
    }
    for keys in [
        r#""ttl":"0""#,
        r#""cache":true"#,
        r#""internal":1"#,
        r#""domainName":5"#,
        r#""upstreams":"x""#,
        r#""args":[]"#,
    ] {
        assert_eq!(refusal(keys).0, 999, "{keys}");
    }
}

#[test]
fn values_are_parsed() {
    let keys = r#""domainName":"Example.ORG.","mode":"netns","ttl":3600,"cache":0,"upstreams":["1.1.1.1","[fd00::1]:5353","fd00::2"],
        "runtimeConfig":{"dns":{"servers":["9.9.9.9:54"]}},"stateDir":"/x","keepNameservers":false"#;
    let config = config(keys).unwrap();
    let texts = |list: Option<Vec<SocketAddr>>| -> Vec<String> {
        list.unwrap_or_default().iter().map(ToString::to_string).collect()
    };
    assert_eq!(config.domain.as_deref(), Some("example.org"));
    assert_eq!((config.mode, config.ttl, config.keep_nameservers), (Some(Mode::Netns), 3600, false));
    assert_eq!(config.cache, 0);
    assert_eq!(texts(config.upstreams), ["1.1.1.1:53", "[fd00::1]:5353", "[fd00::2]:53"]);
    assert_eq!(texts(config.own_upstreams), ["9.9.9.9:54"]);
    assert_eq!(config.state_dir, Some("/x".into()));
}

/// Configurations of dnsname work unchanged.
#[test]
fn a_dnsname_configuration_is_accepted() {
    let keys = r#""domainName":"","capabilities":{"aliases":true},"runtimeConfig":{"aliases":{"net":["a"]}}"#;
    let config = config(keys).unwrap();
    assert_eq!((config.domain, config.names[1].as_str()), (None, "a"));
}

/// D-065: DEL needs one key, and ignores errors in all others.
#[test]
fn del_ignores_errors_in_the_configuration() {
    let odd = request("", r#""domainName":5,"mode":[],"runtimeConfig":7"#);
    assert_eq!(state_dir_for_del(&odd), None);
    for (key, dir) in [("\"/x\"", Some("/x")), ("5", None), ("\"x\"", None), ("null", None)] {
        let request = request("", &format!(r#""stateDir":{key},"ttl":"x""#));
        assert_eq!(state_dir_for_del(&request), dir.map(PathBuf::from));
    }
}
