//! Plans compared with golden files, and errors of the configuration; needs neither root nor
//! kernel.

use cni::{Error, testing};

use crate::config::{Config, name_of};
use crate::plan::plan;

fn golden(name: &str, keys: &str) {
    let request = testing::add_with("vrf", keys, "");
    let plan = plan(&Config::of(&request).unwrap(), &request.ifname);
    testing::golden("vrf", name, &format!("{plan:?}\n"));
}

fn refusal(keys: &str) -> Error {
    Config::of(&testing::add_with("vrf", keys, "")).unwrap_err()
}

#[test]
fn a_name_alone_leaves_the_table_open() {
    golden("name", r#""vrfname": "red", "table": 0"#);
    golden("name", r#""vrfname": "red", "table": null"#);
}

#[test]
fn a_configured_table_is_planned() {
    golden("every-key", r#""vrfname": "red", "table": 4000000000"#);
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, text) in [
        ("", "configuration is expected to have a valid vrf name"),
        (r#""vrfname": """#, "configuration is expected to have a valid vrf name"),
        (r#""vrfname": "a/b""#, "invalid vrfname \"a/b\""),
        (r#""vrfname": "sixteen-letters-""#, "invalid vrfname"),
        (r#""vrfname": "eth0""#, "name of the interface"),
        (r#""vrfname": "red", "table": -1"#, "invalid table -1"),
        (r#""vrfname": "red", "table": 255"#, "invalid table 255"),
        (r#""vrfname": "red", "table": 4294967296"#, "invalid table 4294967296"),
    ] {
        let error = refusal(keys);
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""vrfname": 5"#, r#""vrfname": "red", "table": "7""#] {
        let error = refusal(keys);
        assert!(error.code == 999 && error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}

#[test]
fn del_reads_a_valid_name_alone() {
    let of = |keys: &str| name_of(&testing::add_with("vrf", keys, ""));
    assert_eq!(of(r#""vrfname": "red", "table": "x""#).as_deref(), Some("red"));
    for keys in ["", r#""vrfname": 5"#, r#""vrfname": "a/b""#] {
        assert_eq!(of(keys), None, "{keys}");
    }
}
