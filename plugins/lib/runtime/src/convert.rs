//! Converts cached results to the list's version.
//!
//! Works on the JSON tree: keys that the specification does not name survive if the target's format
//! has a place for them. It is also a second implementation of C-050 to C-066, independent of the
//! one in `cni` that the harness tests.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::json::type_name;
use crate::version::or_oldest;

/// The three formats of results.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// 0.1.0 and 0.2.0: one address per family.
    PerFamily,
    /// 0.3.0 to 0.4.0: a list of addresses with a key for their family.
    Marked,
    /// From 1.0.0 on: a list of addresses.
    Plain,
}

/// The format of a version's results; `None` for an unknown version.
pub(crate) fn format_of(version: &str) -> Option<Format> {
    match version {
        "0.1.0" | "0.2.0" => Some(Format::PerFamily),
        "0.3.0" | "0.3.1" | "0.4.0" => Some(Format::Marked),
        "1.0.0" | "1.1.0" => Some(Format::Plain),
        _ => None,
    }
}

type Object = Map<String, Value>;

/// Converts the result to version `to` (C-060 to C-064); the error is the reason why this is
/// impossible.
pub(crate) fn convert(result: Value, to: &str) -> Result<Value, String> {
    let Value::Object(mut result) = result else {
        return Err(format!("expected an object, found {}", type_name(&result)));
    };
    let from = match result.get("cniVersion") {
        None | Some(Value::Null) => or_oldest("").to_owned(),
        Some(Value::String(version)) => or_oldest(version).to_owned(),
        Some(other) => return Err(format!("cniVersion: expected a string, found {}", type_name(other))),
    };
    let to = or_oldest(to);
    let old = format_of(&from).ok_or_else(|| format!("unsupported CNI result version {from:?}"))?;
    let new = format_of(to).ok_or_else(|| format!("no converter for CNI result version {from} to {to}"))?;
    if old != new {
        result = match (old, new) {
            (Format::PerFamily, _) => spread(result)?,
            (Format::Plain, _) => mark(result)?,
            (Format::Marked, _) => result,
        };
        // Now it has the middle format; each of the others is one step away.
        result = match new {
            Format::Plain => unmark(result)?,
            Format::PerFamily => gather(result)?,
            Format::Marked => result,
        };
    }
    result.insert("cniVersion".into(), to.into());
    Ok(result.into())
}

/// C-061: one list for the addresses of both families, and one for their routes.
fn spread(mut result: Object) -> Result<Object, String> {
    let (mut ips, mut routes) = (Vec::new(), Vec::new());
    for (key, family) in [("ip4", "4"), ("ip6", "6")] {
        let Some(Value::Object(mut ip)) = result.remove(key) else { continue };
        routes.append(&mut list(&mut ip, "routes")?);
        let mut spread = Object::new();
        spread.insert("version".into(), family.into());
        if let Some(address) = ip.remove("ip") {
            spread.insert("address".into(), address);
        }
        spread.extend(ip);
        ips.push(spread.into());
    }
    put_list(&mut result, "ips", ips);
    put_list(&mut result, "routes", routes);
    Ok(result)
}

/// C-063: adds the family to each address, and drops the keys that links have only since 1.0.0.
fn mark(mut result: Object) -> Result<Object, String> {
    let mut ips = list(&mut result, "ips")?;
    for ip in &mut ips {
        let ip = ip.as_object_mut().ok_or("ips: expected a list of objects")?;
        let address = ip.get("address").and_then(Value::as_str).unwrap_or_default();
        let family = if is_v4(address)? { "4" } else { "6" };
        ip.insert("version".into(), family.into());
    }
    let mut interfaces = list(&mut result, "interfaces")?;
    for interface in interfaces.iter_mut().filter_map(Value::as_object_mut) {
        interface.retain(|key, _| !matches!(key.as_str(), "mtu" | "socketPath" | "pciID"));
    }
    put_list(&mut result, "ips", ips);
    put_list(&mut result, "interfaces", interfaces);
    // This format always has the key (C-051).
    result.entry("dns").or_insert_with(|| json!({}));
    Ok(result)
}

/// C-064; drops an empty `dns` (C-051).
fn unmark(mut result: Object) -> Result<Object, String> {
    let mut ips = list(&mut result, "ips")?;
    for ip in ips.iter_mut().filter_map(Value::as_object_mut) {
        ip.remove("version");
    }
    put_list(&mut result, "ips", ips);
    if result.get("dns").and_then(Value::as_object).is_some_and(Map::is_empty) {
        result.remove("dns");
    }
    Ok(result)
}

/// C-062: the first address of each family by its key `version`, with the routes of that family,
/// destination and gateway only.
fn gather(mut result: Object) -> Result<Object, String> {
    let (ips, routes) = (list(&mut result, "ips")?, list(&mut result, "routes")?);
    result.remove("interfaces");
    let mut found = false;
    for (key, family) in [("ip4", "4"), ("ip6", "6")] {
        let Some(ip) = ips.iter().find(|ip| ip["version"] == family) else { continue };
        found = true;
        let mut gathered = Object::new();
        gathered.insert("ip".into(), ip["address"].clone());
        if let Some(gateway) = ip.get("gateway") {
            gathered.insert("gateway".into(), gateway.clone());
        }
        let mut own = Vec::new();
        for route in &routes {
            let dst = route["dst"].as_str().unwrap_or_default();
            if is_v4(dst)? == (family == "4") {
                let mut kept = json!({ "dst": dst });
                if let Some(gw) = route.get("gw") {
                    kept["gw"] = gw.clone();
                }
                own.push(kept);
            }
        }
        put_list(&mut gathered, "routes", own);
        result.insert(key.into(), gathered.into());
    }
    if found { Ok(result) } else { Err("cannot convert: no valid IP addresses".into()) }
}

fn list(object: &mut Object, key: &str) -> Result<Vec<Value>, String> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("{key}: expected a list, found {}", type_name(&other))),
    }
}

/// Omits an empty list (C-053).
fn put_list(object: &mut Object, key: &str, items: Vec<Value>) {
    if !items.is_empty() {
        object.insert(key.into(), items.into());
    }
}

fn is_v4(cidr: &str) -> Result<bool, String> {
    let address = cidr.split_once('/').map_or(cidr, |(address, _)| address);
    let address: IpAddr = address.parse().map_err(|error| format!("{cidr:?}: {error}"))?;
    Ok(address.to_canonical().is_ipv4())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain() -> Value {
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "mac": "0a:00:00:00:00:01", "mtu": 1400, "sandbox": "/n"}],
            "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 0},
                    {"address": "2001:db8::3/64"}, {"address": "10.1.2.4/24"}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1300}, {"dst": "::/0", "gw": "2001:db8::1"}],
        })
    }

    /// C-060, C-064: within a format, only the version changes.
    #[test]
    fn the_same_format_keeps_everything() {
        let mut wanted = plain();
        wanted["cniVersion"] = "1.0.0".into();
        assert_eq!(convert(plain(), "1.0.0"), Ok(wanted));
        assert_eq!(convert(plain(), "1.1.0"), Ok(plain()));
        let unversioned = json!({"ip4": {"ip": "10.0.0.1/8"}, "x": 1});
        let versioned = json!({"cniVersion": "0.1.0", "ip4": {"ip": "10.0.0.1/8"}, "x": 1});
        assert_eq!(convert(unversioned, ""), Ok(versioned));
    }

    /// C-063, then C-064.
    #[test]
    fn addresses_have_their_family_below_1_0_0() {
        let marked = convert(plain(), "0.4.0").unwrap();
        let wanted = json!({
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "eth0", "mac": "0a:00:00:00:00:01", "sandbox": "/n"}],
            "ips": [{"version": "4", "address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 0},
                    {"version": "6", "address": "2001:db8::3/64"}, {"version": "4", "address": "10.1.2.4/24"}],
            "routes": [{"dst": "0.0.0.0/0", "mtu": 1300}, {"dst": "::/0", "gw": "2001:db8::1"}],
            "dns": {},
        });
        assert_eq!(marked, wanted);
        let mut back = plain();
        back["interfaces"][0].as_object_mut().unwrap().remove("mtu");
        assert_eq!(convert(marked, "1.1.0"), Ok(back));
    }

    /// C-062, then C-061.
    #[test]
    fn one_address_per_family_remains_below_0_3_0() {
        let gathered = convert(plain(), "0.2.0").unwrap();
        let wanted = json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "ip6": {"ip": "2001:db8::3/64", "routes": [{"dst": "::/0", "gw": "2001:db8::1"}]},
            "dns": {},
        });
        assert_eq!(gathered, wanted);
        let spread = json!({
            "cniVersion": "1.0.0",
            "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}, {"address": "2001:db8::3/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "2001:db8::1"}],
        });
        assert_eq!(convert(gathered, "1.0.0"), Ok(spread));
    }

    /// C-057, C-060, C-062.
    #[test]
    fn an_impossible_conversion_is_an_error() {
        let error = |result: Value, to: &str| convert(result, to).unwrap_err();
        let layer2 = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}]});
        assert_eq!(error(layer2, "0.2.0"), "cannot convert: no valid IP addresses");
        assert_eq!(error(plain(), "9.9.9"), "no converter for CNI result version 1.1.0 to 9.9.9");
        assert_eq!(
            error(json!({"cniVersion": "9.9.9"}), "1.0.0"),
            "unsupported CNI result version \"9.9.9\""
        );
        assert!(error(json!({"cniVersion": "1.0.0", "ips": 5}), "0.4.0").starts_with("ips: "));
    }
}
