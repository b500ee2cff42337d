//! The arguments and configurations of the servers.

use std::fmt::Write;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{DOMAIN, Family, MTU, NAMES6, NETWORK, NETWORK6, Offer, PREFIXES, ROUTER, Router, Software};

/// The file of the leases.
pub fn lease_file(dir: &Path) -> PathBuf {
    dir.join("leases")
}

/// Makes that file empty, in the software's sense.
pub fn empty_leases(software: Software, dir: &Path) -> Result<()> {
    let path = lease_file(dir);
    match software {
        // It does not start without the file.
        Software::Isc => fs::write(&path, ""),
        _ if path.exists() => fs::remove_file(&path),
        _ => Ok(()),
    }
    .with_context(|| format!("empty {}", path.display()))
}

/// Writes the configuration; returns the command line that runs the server in the foreground.
pub fn arguments(software: Software, family: Family, offer: &Offer, dir: &Path) -> Result<Vec<String>> {
    empty_leases(software, dir)?;
    let conf = dir.join("conf");
    let leases = lease_file(dir);
    Ok(match (software, family) {
        (Software::Dnsmasq, _) => dnsmasq(family, offer, &leases),
        (Software::Kea, _) => {
            let text = match family {
                Family::V4 => kea4(offer, &leases)?,
                Family::V6 => kea6(offer, &leases),
            };
            fs::write(&conf, text.to_string())?;
            vec!["-c".into(), conf.display().to_string()]
        }
        (Software::Isc, _) => {
            let (text, flag) = match family {
                Family::V4 => (isc(offer)?, "-4"),
                Family::V6 => (isc6(offer), "-6"),
            };
            fs::write(&conf, text)?;
            let mut args: Vec<String> = [flag, "-f", "-d", "--no-pid", "-cf"].map(String::from).to_vec();
            args.extend([conf.display().to_string(), "-lf".into(), leases.display().to_string()]);
            args.push("eth0".into());
            args
        }
    })
}

fn dnsmasq(family: Family, offer: &Offer, leases: &Path) -> Vec<String> {
    let fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--interface=eth0", "--port=0"];
    let more = ["--user=root", "--pid-file=", "--no-ping", "--log-dhcp", "--log-facility=-"];
    let mut args: Vec<String> = fixed.into_iter().chain(more).map(str::to_owned).collect();
    args.push(format!("--dhcp-leasefile={}", leases.display()));
    let ((first, last), lease) = (offer.range, offer.lease);
    match family {
        Family::V4 => args.push(format!("--dhcp-range={NETWORK}.{first},{NETWORK}.{last},{lease}s")),
        Family::V6 if offer.router == Router::Prefix => {
            args.push(format!("--dhcp-range={NETWORK6}:,ra-only,64,{lease}s"));
        }
        Family::V6 => {
            args.push(format!("--dhcp-range={NETWORK6}:{first:x},{NETWORK6}:{last:x},64,{lease}s"));
        }
    }
    if offer.router != Router::None {
        args.push("--enable-ra".into());
    }
    if family == Family::V6 && offer.extras {
        args.push(format!("--dhcp-option=option6:dns-server,[{NAMES6}]"));
        args.push(format!("--dhcp-option=option6:domain-search,{DOMAIN}"));
        args.push(format!("--ra-param=eth0,mtu:{MTU},10,600"));
    }
    if family == Family::V4 && !offer.routes.is_empty() {
        args.push(format!("--dhcp-option=121,{}", pairs(&offer.routes)));
    }
    if family == Family::V4 && !offer.classful.is_empty() {
        args.push(format!("--dhcp-option=33,{}", pairs(&offer.classful)));
    }
    if family == Family::V4 && offer.extras {
        args.push(format!("--dhcp-option=option:mtu,{MTU}"));
        args.push(format!("--dhcp-option=option:dns-server,{ROUTER}"));
        args.push(format!("--dhcp-option=option:ntp-server,{ROUTER}"));
        args.push(format!("--dhcp-option=option:domain-name,{DOMAIN}"));
    }
    args
}

/// Routes as dnsmasq and Kea have them.
fn pairs(routes: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = routes.iter().map(|(dst, gw)| format!("{dst},{gw}")).collect();
    pairs.join(",")
}

fn kea(name: &str, leases: &Path, offer: &Offer) -> Value {
    json!({
        "lease-database": {"type": "memfile", "name": leases, "lfc-interval": 0},
        "valid-lifetime": offer.lease,
        "loggers": [{"name": name, "severity": "INFO", "output_options": [{"output": "stderr"}]}],
    })
}

fn kea4(offer: &Offer, leases: &Path) -> Result<Value> {
    let mut conf = kea("kea-dhcp4", leases, offer);
    let (first, last) = offer.range;
    let mut options = vec![json!({"name": "routers", "data": ROUTER})];
    if !offer.routes.is_empty() {
        options.push(json!({"code": 121, "csv-format": false, "data": hex(&classless(offer)?)}));
    }
    if !offer.classful.is_empty() {
        options.push(json!({"name": "static-routes", "data": pairs(&offer.classful)}));
    }
    if offer.extras {
        options.push(json!({"name": "interface-mtu", "data": MTU.to_string()}));
        options.push(json!({"name": "domain-name-servers", "data": ROUTER}));
        options.push(json!({"name": "ntp-servers", "data": ROUTER}));
        options.push(json!({"name": "domain-name", "data": DOMAIN}));
    }
    conf["interfaces-config"] = json!({"interfaces": ["eth0"], "dhcp-socket-type": "raw"});
    conf["subnet4"] = json!([{"subnet": format!("{NETWORK}.0/24"), "option-data": options,
        "pools": [{"pool": format!("{NETWORK}.{first}-{NETWORK}.{last}")}]}]);
    Ok(json!({"Dhcp4": conf}))
}

fn kea6(offer: &Offer, leases: &Path) -> Value {
    let mut conf = kea("kea-dhcp6", leases, offer);
    let (first, last) = offer.range;
    let (prefix, length) = PREFIXES.split_once('/').unwrap_or((PREFIXES, "48"));
    let length: u8 = length.parse().unwrap_or(48);
    let delegated = json!([{"prefix": prefix, "prefix-len": length, "delegated-len": 64}]);
    let mut subnet = json!({"subnet": format!("{NETWORK6}:/64"), "interface": "eth0",
        "pools": [{"pool": format!("{NETWORK6}:{first:x}-{NETWORK6}:{last:x}")}]});
    if offer.prefixes {
        subnet["pd-pools"] = delegated;
    }
    if offer.extras {
        subnet["option-data"] = json!([{"name": "dns-servers", "data": NAMES6},
            {"name": "domain-search", "data": DOMAIN}]);
    }
    conf["preferred-lifetime"] = json!(offer.lease);
    conf["interfaces-config"] = json!({"interfaces": ["eth0"]});
    conf["server-id"] = json!({"type": "LL", "persist": false});
    conf["subnet6"] = json!([subnet]);
    json!({"Dhcp6": conf})
}

fn isc(offer: &Offer) -> Result<String> {
    let (first, last) = offer.range;
    let mut text = format!(
        "authoritative;\nddns-update-style none;\nping-check false;\ndb-time-format local;\n\
         min-lease-time 1;\ndefault-lease-time {0};\nmax-lease-time {0};\n\
         option classless code 121 = array of unsigned integer 8;\n",
        offer.lease
    );
    if !offer.routes.is_empty() {
        let bytes: Vec<_> = classless(offer)?.iter().map(u8::to_string).collect();
        writeln!(text, "option classless {};", bytes.join(", "))?;
    }
    if !offer.classful.is_empty() {
        let pairs: Vec<_> = offer.classful.iter().map(|(dst, gw)| format!("{dst} {gw}")).collect();
        writeln!(text, "option static-routes {};", pairs.join(", "))?;
    }
    if offer.extras {
        writeln!(text, "option interface-mtu {MTU};\noption domain-name-servers {ROUTER};")?;
        writeln!(text, "option ntp-servers {ROUTER};\noption domain-name \"{DOMAIN}\";")?;
    }
    writeln!(
        text,
        "subnet {NETWORK}.0 netmask 255.255.255.0 {{\n  range {NETWORK}.{first} {NETWORK}.{last};\n  \
         option routers {ROUTER};\n}}"
    )?;
    Ok(text)
}

fn isc6(offer: &Offer) -> String {
    let (first, last) = offer.range;
    format!(
        "authoritative;\nddns-update-style none;\ndb-time-format local;\n\
         default-lease-time {0};\npreferred-lifetime {0};\n\
         subnet6 {NETWORK6}:/64 {{\n  range6 {NETWORK6}:{first:x} {NETWORK6}:{last:x};\n}}\n",
        offer.lease
    )
}

/// The value of option 121 (RFC 3442): length, the destination's significant bytes, next hop.
fn classless(offer: &Offer) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    for (dst, gw) in &offer.routes {
        let (address, length) = dst.split_once('/').with_context(|| format!("{dst} has no length"))?;
        let (address, gw): (Ipv4Addr, Ipv4Addr) = (address.parse()?, gw.parse()?);
        let length: u8 = length.parse()?;
        bytes.push(length);
        bytes.extend(address.octets().into_iter().take(usize::from(length).div_ceil(8)));
        bytes.extend(gw.octets());
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 3442, "Classless Route Option Format".
    #[test]
    fn a_route_has_only_the_significant_bytes_of_its_destination() {
        let routes =
            vec![("10.0.0.0/8", "10.0.0.1"), ("10.17.0.0/16", "10.0.0.2"), ("0.0.0.0/0", "10.0.0.3")];
        let offer = Offer { routes, ..Offer::default() };
        let wanted = [8, 10, 10, 0, 0, 1, 16, 10, 17, 10, 0, 0, 2, 0, 10, 0, 0, 3];
        assert_eq!(classless(&offer).unwrap(), wanted);
        assert_eq!(hex(&wanted[..3]), "080a0a");
    }
}
