//! What the kernel has, and how it is set.

use std::collections::BTreeMap;
use std::path::Path;

use host::rules;
use netlink::Netlink;

use super::super::facts::{Conntrack, Facts, Has};
use super::text;
use crate::doctor::kernel::modules;

pub fn release() -> String {
    text(Path::new("/proc/sys/kernel/osrelease")).unwrap_or_default().trim().to_owned()
}

/// Whether the kernel has each module, in it or beside it.
pub fn features(netlink: &Netlink) -> BTreeMap<&'static str, Has> {
    let dir = Path::new("/lib/modules").join(release());
    let list = |name: &str| {
        let list = std::fs::read(dir.join(name)).ok()?;
        Some(String::from_utf8_lossy(&list).into_owned())
    };
    let (built_in, loadable) = (list("modules.builtin"), list("modules.dep"));
    // Without loadable modules, a question loads none.
    let no_modules = !Path::new("/proc/modules").exists()
        || text(Path::new("/proc/sys/kernel/modules_disabled")).is_some_and(|value| value.trim() == "1");
    let has = |module: &'static str| {
        let spelled = [module.to_owned(), module.replace('_', "-")];
        let is_in = |list: &Option<String>| {
            list.as_ref()
                .is_some_and(|list| spelled.iter().any(|name| list.lines().any(|line| is_module(line, name))))
        };
        if Path::new("/sys/module").join(module).exists() || is_in(&built_in) {
            Has::Yes
        } else if no_modules {
            probe(netlink, module)
        } else if is_in(&loadable) {
            Has::Loadable
        } else if built_in.is_some() && loadable.is_some() {
            Has::No
        } else {
            Has::Unknown
        }
    };
    modules().map(|module| (module, has(module))).collect()
}

/// Whether a line of the lists, `kernel/net/bridge/bridge.ko.xz: ...`, is of this module.
fn is_module(line: &str, name: &str) -> bool {
    let file = line.split(':').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    file.split_once(".ko").is_some_and(|(module, _)| module == name)
}

/// Asks the kernel, by requests that create nothing.
fn probe(netlink: &Netlink, module: &'static str) -> Has {
    let asked = match module {
        "nf_tables" => rules::open().map(|_| true),
        "nf_conntrack" => Ok(Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists()),
        "8021q" => netlink.has_link_kind("vlan"),
        "sch_tbf" => netlink.has_discipline("tbf"),
        kind => netlink.has_link_kind(kind),
    };
    match asked {
        Ok(true) => Has::Yes,
        Ok(false) => Has::No,
        Err(error) if rules::is_without_nf_tables(&error) => Has::No,
        Err(_) => Has::Unknown,
    }
}

/// The parameters that are judged, and exist.
pub fn sysctls(facts: &Facts) -> BTreeMap<String, String> {
    let mut keys: Vec<String> = [
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/ipv6/conf/all/disable_ipv6",
        "net/ipv6/conf/default/disable_ipv6",
        "net/bridge/bridge-nf-call-iptables",
        "net/ipv4/conf/all/rp_filter",
        "user/max_net_namespaces",
        "fs/inotify/max_user_instances",
    ]
    .map(str::to_owned)
    .to_vec();
    let masters = facts.networks.iter().filter_map(|network| network.master.clone());
    let bridges = facts.networks.iter().filter_map(|network| network.bridge.clone());
    let links = masters.chain(bridges).chain(facts.uplinks.clone()).chain(facts.advertised.clone());
    // A link's name has no slash.
    for link in links.filter(|link| !link.contains('/')) {
        for key in ["ipv4/conf/{}/forwarding", "ipv4/conf/{}/rp_filter", "ipv6/conf/{}/forwarding"]
            .into_iter()
            .chain(["ipv6/conf/{}/accept_ra", "ipv6/conf/{}/disable_ipv6"])
        {
            keys.push(format!("net/{}", key.replace("{}", &link)));
        }
    }
    keys.into_iter().filter_map(|key| sys::sysctl::read(&key).ok().map(|value| (key, value))).collect()
}

pub fn conntrack() -> Option<Conntrack> {
    let number = |name: &str| -> Option<u64> {
        sys::sysctl::read(&format!("net/netfilter/{name}")).ok()?.trim().parse().ok()
    };
    let mut table = Conntrack {
        count: number("nf_conntrack_count")?,
        max: number("nf_conntrack_max")?,
        ..Conntrack::default()
    };
    let counters = text(Path::new("/proc/net/stat/nf_conntrack")).unwrap_or_default();
    table.insert_failed = sum(&counters, "insert_failed");
    table.drop = sum(&counters, "drop");
    Some(table)
}

/// The sum of a column: a heading, and a line of hexadecimal numbers for each processor.
fn sum(text: &str, column: &str) -> u64 {
    let mut lines = text.lines();
    let at = lines.next().and_then(|heads| heads.split_whitespace().position(|head| head == column));
    let value = |line: &str| u64::from_str_radix(line.split_whitespace().nth(at?)?, 16).ok();
    lines.filter_map(value).sum()
}

/// Open files of the system, and their limit.
pub fn open_files() -> Option<(u64, u64)> {
    let text = text(Path::new("/proc/sys/fs/file-nr"))?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    Some((*numbers.first()?, *numbers.get(2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_counters_are_read_as_the_kernel_writes_them() {
        assert!(is_module("kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko", "bridge"));
        assert!(is_module("kernel/net/8021q/8021q.ko", "8021q"));
        assert!(!is_module("kernel/net/bridge/br_netfilter.ko", "bridge"));
        let text = "entries drop insert_failed\n00000001 00000010 00000002\n00000001 00000001 00000000\n";
        assert_eq!((sum(text, "drop"), sum(text, "insert_failed"), sum(text, "none")), (17, 2, 0));
    }
}
