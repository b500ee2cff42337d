use super::*;

fn key() -> Key {
    Key { container: "c1".into(), ifname: "eth0".into() }
}

/// Releases exchange these packets: a change is a new protocol version.
#[test]
fn packets_keep_their_format() {
    for (ask, text) in [
        (ControlRequest::Hello, r#"{"ask":"hello"}"#),
        (ControlRequest::Sync { network: "n".into(), key: None }, r#"{"ask":"sync","network":"n"}"#),
        (
            ControlRequest::Sync { network: "n".into(), key: Some(key()) },
            r#"{"ask":"sync","network":"n","key":{"container":"c1","ifname":"eth0"}}"#,
        ),
        (
            ControlRequest::Adopt { network: "n".into(), key: key() },
            r#"{"ask":"adopt","network":"n","key":{"container":"c1","ifname":"eth0"}}"#,
        ),
        (ControlRequest::Reexec { path: "/x".into() }, r#"{"ask":"reexec","path":"/x"}"#),
        (ControlRequest::Records, r#"{"ask":"records"}"#),
        (ControlRequest::Settle, r#"{"ask":"settle"}"#),
        (ControlRequest::Cache { network: "n".into() }, r#"{"ask":"cache","network":"n"}"#),
    ] {
        assert_eq!(String::from_utf8(ask.to_packet()).unwrap(), text);
        assert_eq!(ControlRequest::from_packet(text.as_bytes()).unwrap(), ask);
    }
    let cache = Some(Figures { answers: 1, bytes: 2, hits: 3, misses: 4 });
    let answer = ControlResponse {
        protocol: 1,
        build: "1.2.3".into(),
        pid: 7,
        error: None,
        detached: false,
        cache: None,
    };
    assert_eq!(String::from_utf8(answer.to_packet()).unwrap(), r#"{"protocol":1,"build":"1.2.3","pid":7}"#);
    let figures = ControlResponse { cache, ..answer }.to_packet();
    let figures = String::from_utf8(figures).unwrap();
    assert!(figures.ends_with(r#","cache":{"answers":1,"bytes":2,"hits":3,"misses":4}}"#), "{figures}");
    let later = r#"{"protocol":2,"build":"9","pid":7,"error":"x","more":[1]}"#;
    assert_eq!(ControlResponse::from_packet(later.as_bytes()).unwrap().error.as_deref(), Some("x"));
}

/// D-055
#[test]
fn malformed_requests_are_rejected() {
    for odd in ["", "{", "[]", "null", "{}", r#"{"ask":"stop"}"#, r#"{"ask":"sync"}"#, "\u{0}\u{ff}"] {
        assert!(ControlRequest::from_packet(odd.as_bytes()).is_none(), "{odd}");
    }
}
