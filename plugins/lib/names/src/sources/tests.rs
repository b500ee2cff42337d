use cni::testing;

use super::*;

fn request(args: &str, keys: &str) -> Request {
    let mut request = testing::add_with("overlay", keys, args);
    request.container_id = "0123456789abcdef".into();
    request
}

fn names(args: &str, keys: &str) -> Result<Vec<String>, Error> {
    Sources::of(&request(args, keys))?.names(Rules::of("overlay"))
}

#[test]
fn names_come_from_every_source_in_order_of_precedence() {
    let all = r#""args":{"cni":{"names":["n1","WEB"]}},"runtimeConfig":{"aliases":{"net":["a1"],"x":["b"]}}"#;
    assert_eq!(names("x=1;K8S_POD_NAME=Web", all).unwrap(), ["web", "a1", "n1", "0123456789ab"]);
    assert_eq!(names("", "").unwrap(), ["0123456789ab"]);
    assert_eq!(names("K8S_POD_NAME=web", r#""shortId":false"#).unwrap(), ["web"]);
    assert_eq!(names("", r#""shortId":false"#).unwrap(), ["0123456789ab"], "a container has a name");
}

#[test]
fn the_key_decides_about_invalid_names_and_else_the_plugin() {
    let keys = |key: &str| format!(r#"{key}"runtimeConfig":{{"aliases":["good","bad name"]}}"#);
    let of = |key: &str, skip_invalid| {
        Sources::of(&request("", &keys(key))).unwrap().names(Rules { skip_invalid, ..Rules::of("dns") })
    };
    let skipped = ["good", "0123456789ab"];
    assert_eq!(of("", true).unwrap(), skipped);
    assert_eq!(of(r#""invalidNames":"skip","#, false).unwrap(), skipped);
    for refused in [of("", false), of(r#""invalidNames":"error","#, true)] {
        assert_eq!(refused.unwrap_err().code, 7);
    }
    let odd = names("", r#""invalidNames":"x""#).unwrap_err();
    assert!(odd.code == 7 && odd.msg.contains("invalidNames"), "{odd:?}");
}
