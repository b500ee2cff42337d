//! VERSION and validation: C-037.

use runtime::{Conflist, Error};

use crate::support::{FAIL, House, list};

const SPEAKS: &str = r#"printf '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0"]}\n'"#;

/// As in libcni.
#[test]
fn a_version_request_has_dummies_for_an_attachment() {
    let house = House::new();
    house.plugin("a", SPEAKS);
    let info = house.runtime.version("a").unwrap();
    assert_eq!((info.cni_version.as_str(), info.supported), ("1.1.0", vec!["0.4.0".into(), "1.0.0".into()]));
    let call = &house.calls()[0];
    assert_eq!([&call.command, &call.container_id, &call.args], ["VERSION", "", ""]);
    assert_eq!([&call.netns, &call.ifname, &call.path], ["dummy", "dummy", "dummy"]);
    assert_eq!(call.stdin, r#"{"cniVersion":"1.1.0"}"#);
}

/// C-037: a plugin that does not know VERSION supports only 0.1.0.
#[test]
fn the_output_of_version_must_be_complete() {
    let house = House::new();
    let answer = |body: &str| {
        house.plugin("a", body);
        house.runtime.version("a").map(|info| info.supported.join(" ")).map_err(|error| error.to_string())
    };
    assert_eq!(answer(r#"printf '{"cniVersion":"0.2.0"}'"#), Ok("0.1.0 0.2.0".into()));
    let old = r#"printf '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1"#;
    assert_eq!(answer(old), Ok("0.1.0".into()));
    let missing = |field: &str| Err(format!("decoding version info: missing field {field}"));
    assert_eq!(answer(r#"printf '{"supportedVersions":["1.0.0"]}'"#), missing("cniVersion"));
    assert_eq!(answer(r#"printf '{"cniVersion":"1.0.0"}'"#), missing("supportedVersions"));
    assert!(answer("echo x").unwrap_err().starts_with("decoding version info: "));
    assert_eq!(answer(FAIL), Err("no luck; try again".into()));
}

#[test]
fn validation_returns_the_capabilities_or_every_failing_plugin() {
    let house = House::new();
    house.plugin("a", SPEAKS);
    house.plugin("b", SPEAKS);
    let text = br#"{"cniVersion":"1.0.0","name":"net","plugins":[
        {"type":"a","capabilities":{"mac":true,"ips":false}},
        {"type":"b","capabilities":{"mac":true,"bandwidth":true}}]}"#;
    let net = Conflist::from_bytes(text).unwrap();
    assert_eq!(house.runtime.validate(&net).unwrap(), ["bandwidth", "mac"]);

    let error = house.runtime.validate(&list("1.1.0", &["a", "gone", "b"])).unwrap_err();
    let bin = house.path("bin");
    assert_eq!(
        error.to_string(),
        format!(
            "[plugin a does not support config version \"1.1.0\" failed to find plugin \"gone\" in path [{}] \
             plugin b does not support config version \"1.1.0\"]",
            bin.display()
        )
    );
    assert!(matches!(error, Error::Invalid(plugins) if plugins.len() == 3));

    let unversioned = house.runtime.validate(&list("", &["a"])).unwrap_err().to_string();
    assert_eq!(unversioned, "[plugin a does not support config version \"0.1.0\"]");
}
