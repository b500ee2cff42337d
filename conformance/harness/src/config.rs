//! Network configurations for cases and stages.

use serde_json::{Value, json};

/// The versions of the CNI specification, oldest first (C-036).
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// The version of cases that are not about versions: every current suite supports it.
pub const USUAL: &str = "1.0.0";

/// The plugins in every suite.
pub const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// A host-local configuration with one range, to call directly or as a delegate.
pub fn host_local(version: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": "host-local",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]},
    })
}

/// A dual-stack bridge with gateway and default routes.
pub fn bridge(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": "bridge", "bridge": "br0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]]},
    })
}

/// A bridge without addresses.
pub fn layer2(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "bridge", "bridge": "br0"})
}

/// A dual-stack network of routed veth pairs, with default routes.
pub fn ptp(version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": "ptp",
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
    })
}

/// A copy of the document with these top-level keys set.
pub fn with(document: &Value, keys: Value) -> Value {
    let mut document = document.clone();
    if let (Some(map), Value::Object(keys)) = (document.as_object_mut(), keys) {
        map.extend(keys);
    }
    document
}

/// A minimal configuration with which a plugin's ADD succeeds.
pub fn smallest(plugin: &str, version: &str) -> Value {
    match plugin {
        "bridge" => bridge(version),
        "ptp" => ptp(version),
        "host-local" => host_local(version, "10.1.2.0/24"),
        _ => json!({"cniVersion": version, "name": "net", "type": plugin}),
    }
}
