//! What a process sees in a network namespace of its own: `/sys` of that namespace, and its own
//! resolv.conf, by mounts that nobody else sees.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use netlink::{LinkChange, Netlink};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::endpoint::Resolver;
use crate::failure::Failure;

const NONE: Option<&str> = None;
/// Where the own resolv.conf lies for a moment: `/sys` is covered anyway.
const SYS: &str = "/sys";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why a mount or a namespace was refused.
pub fn refused(what: &str, error: impl Into<io::Error>) -> Failure {
    Failure::refused(format!("{what}: {}", error.into()))
}

/// Leaves the host's mounts for a copy of them: later ones of the host appear here, and those of
/// here nowhere else.
pub fn leave_mounts() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| refused("make a mount namespace", errno))?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(|errno| refused("make the mounts private", errno))
}

/// Covers `/sys` by that of the network namespace that this process is in, and resolv.conf by this
/// text.
pub fn furnish(resolv_conf: Option<&str>) -> Result<(), Failure> {
    if let Some(text) = resolv_conf {
        cover_resolv_conf(text)?;
    }
    // Some kernels refuse it in a user namespace; only /sys/class/net needs it.
    let _ = mount(Some("sysfs"), SYS, Some("sysfs"), MsFlags::empty(), NONE);
    Ok(())
}

fn cover_resolv_conf(text: &str) -> Result<(), Failure> {
    let target = match fs::canonicalize(RESOLV_CONF) {
        Ok(target) => target,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("moor: {RESOLV_CONF} does not exist, so the command has no name servers");
            return Ok(());
        }
        Err(error) => return Err(refused(RESOLV_CONF, error)),
    };
    mount(Some("tmpfs"), SYS, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .map_err(|errno| refused("mount a tmpfs", errno))?;
    let own = Path::new(SYS).join("resolv.conf");
    fs::write(&own, text).map_err(|error| refused("write the command's resolv.conf", error))?;
    mount(Some(&own), &target, NONE, MsFlags::MS_BIND, NONE)
        .map_err(|errno| refused(&format!("cover {}", target.display()), errno))?;
    umount(SYS).map_err(|errno| refused("unmount a tmpfs", errno))
}

/// Sets `lo` of this thread's network namespace up.
pub fn set_loopback_up() -> Result<(), Failure> {
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    // The kernel gives lo of every namespace this index.
    let done = Netlink::open().and_then(|netlink| netlink.set_link(1, &up));
    done.map_err(|error| Failure::refused(format!("set lo up: {error:#}")))
}

/// The text of resolv.conf by the results of ADD: the name servers of the first that has some. What
/// was asked for replaces search domains and options, and servers where no result has any.
pub fn resolv_conf(results: &[Value], asked: &Resolver) -> Option<String> {
    let list = |dns: &Value, key: &str| -> Vec<String> {
        let values = dns[key].as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str()).filter(|word| is_one_word(word)).map(Into::into).collect()
    };
    let given = results.iter().map(|result| &result["dns"]).find(|dns| !list(dns, "nameservers").is_empty());
    let nothing = Value::Null;
    let dns = given.unwrap_or(&nothing);
    let or = |asked: &[String], given: Vec<String>| if asked.is_empty() { given } else { asked.to_vec() };
    let servers = match list(dns, "nameservers") {
        none if none.is_empty() => asked.servers.clone(),
        some => some,
    };
    let mut searches = or(&asked.searches, list(dns, "search"));
    if searches.is_empty() {
        searches.extend(dns["domain"].as_str().filter(|domain| is_one_word(domain)).map(Into::into));
    }
    let options = or(&asked.options, list(dns, "options"));
    if servers.is_empty() {
        return None;
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (key, words) in [("search", searches), ("options", options)] {
        if !words.is_empty() {
            text += &format!("{key} {}\n", words.join(" "));
        }
    }
    Some(text)
}

/// Neither empty nor more than one word of a line.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|character| character.is_whitespace() || character.is_control())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_result_with_name_servers_is_resolv_conf() {
        let none = Resolver::default();
        let results = [
            json!({"dns": {"nameservers": []}}),
            json!({"dns": {"nameservers": ["10.90.1.1"], "search": ["shop"], "options": ["ndots:0"]}}),
            json!({"dns": {"nameservers": ["10.90.2.1"]}}),
        ];
        let text = "nameserver 10.90.1.1\nsearch shop\noptions ndots:0\n";
        assert_eq!(resolv_conf(&results, &none).as_deref(), Some(text));
        assert_eq!(resolv_conf(&results[..1], &none), None);
        let domain = [json!({"dns": {"nameservers": ["::1", "a\nb"], "domain": "x"}})];
        assert_eq!(resolv_conf(&domain, &none).as_deref(), Some("nameserver ::1\nsearch x\n"));
    }

    #[test]
    fn servers_that_were_asked_for_count_where_no_result_has_any() {
        let asked =
            Resolver { servers: vec!["192.0.2.1".into()], searches: vec!["own".into()], options: Vec::new() };
        let text = resolv_conf(&[json!({})], &asked);
        assert_eq!(text.as_deref(), Some("nameserver 192.0.2.1\nsearch own\n"));
        let given = [json!({"dns": {"nameservers": ["10.90.1.1"], "search": ["shop"]}})];
        assert_eq!(resolv_conf(&given, &asked).as_deref(), Some("nameserver 10.90.1.1\nsearch own\n"));
    }
}
