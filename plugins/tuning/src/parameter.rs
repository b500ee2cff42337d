//! Kernel parameters as the configuration names them. Pure.

use std::collections::HashSet;
use std::fmt;

use cni::{Error, shortened};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The most parameters of one attachment.
const COUNT_MAX: usize = 256;
/// The longest key, in bytes. The longest of the kernel have some eighty.
const KEY_MAX: usize = 256;
/// The longest value, in bytes: a page less its end.
const VALUE_MAX: usize = 4095;
/// What stands for the attachment's interface in a key.
const TOKEN: &str = "IFNAME";

/// `sysctl` as written, in order and with its duplicates; `null` is no value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written(Vec<(String, Option<String>)>);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WrittenVisitor;
        impl<'de> Visitor<'de> for WrittenVisitor {
            type Value = Written;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Written, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }
        deserializer.deserialize_map(WrittenVisitor)
    }
}

/// A parameter to set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its key as written, which the allow-list is about.
    pub written: String,
    /// Its path below `/proc/sys`.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Parameters of several objects; a later one counts before an earlier one.
#[derive(Debug, Default)]
pub struct Parameters(Vec<Parameter>);

impl Parameters {
    /// These, and those of an object.
    ///
    /// # Errors
    /// The object has a parameter twice, or one that is not a parameter of a network namespace.
    pub fn with(mut self, object: Option<Written>, ifname: &str) -> Result<Self, Error> {
        let Written(members) = object.unwrap_or_default();
        let mut seen = HashSet::new();
        for (written, value) in members {
            let key = key(&written, ifname)?;
            if !seen.insert(key.clone()) {
                let written = shortened(&written);
                return Err(Error::invalid_config("duplicated sysctl keys are not allowed").details(written));
            }
            let Some(value) = value else { continue };
            let value = checked_value(&written, &value)?;
            self.0.retain(|earlier| earlier.key != key);
            self.0.push(Parameter { written, key, value });
        }
        Ok(self)
    }

    /// All of them, in the order in which they are set.
    ///
    /// # Errors
    /// There are too many.
    pub fn into_list(self) -> Result<Vec<Parameter>, Error> {
        match self.0.len() {
            0..=COUNT_MAX => Ok(self.0),
            count => Err(Error::invalid_config(format!("{count} sysctls, at most {COUNT_MAX} are allowed"))),
        }
    }
}

/// Whether a parameter is a link's, whose other parameters have their own.
pub fn is_of_link(key: &str, link: &str) -> bool {
    key.split('/').any(|part| part == link)
}

/// The path of a parameter: dots separate like slashes, but not those of the interface's name.
fn key(written: &str, ifname: &str) -> Result<String, Error> {
    let refused = || Error::invalid_config(format!("invalid net sysctl key: {:?}", shortened(written)));
    if written.len() > KEY_MAX || !written.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused());
    }
    let named = written.replace('.', "/").replacen(TOKEN, ifname, 1);
    let parts: Vec<&str> = named.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["net", _, ..] if parts.iter().all(|part| !matches!(*part, "." | "..")) => Ok(parts.join("/")),
        _ => Err(refused()),
    }
}

fn checked_value(written: &str, value: &str) -> Result<String, Error> {
    let value = value.trim_end_matches('\n');
    if value.len() > VALUE_MAX || value.contains(|c: char| c.is_control() && c != '\t') {
        let (written, value) = (shortened(written), shortened(value));
        return Err(Error::invalid_config(format!("invalid value of sysctl {written}: {value:?}")));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_separate_unless_they_are_the_interfaces() {
        for (written, expected) in [
            ("net.ipv4.conf.IFNAME.arp_filter", "net/ipv4/conf/eth0.5/arp_filter"),
            ("net/ipv4/conf/IFNAME/arp_filter", "net/ipv4/conf/eth0.5/arp_filter"),
            ("/net//core.somaxconn/", "net/core/somaxconn"),
            ("net.ipv4.conf.IFNAME.IFNAME", "net/ipv4/conf/eth0.5/IFNAME"),
        ] {
            assert_eq!(key(written, "eth0.5").unwrap(), expected);
        }
    }

    #[test]
    fn no_key_leads_out_of_the_network_parameters() {
        for written in [
            "",
            "net",
            "net.",
            "kernel.hostname",
            "netx/core",
            "net/core/so max",
            "net/\u{e4}/x",
            "net\0/x",
            "IFNAME/core/x",
            "..",
            "/etc/passwd",
        ] {
            assert!(key(written, "eth0").is_err(), "{written:?}");
        }
        // Dots are separators, so `..` is no part of a path.
        assert_eq!(key("net/../kernel/hostname", "eth0").unwrap(), "net/kernel/hostname");
        assert!(key("net/IFNAME/x", "..").is_err());
        assert!(key(&format!("net/{}", "x".repeat(KEY_MAX)), "eth0").is_err());
    }

    #[test]
    fn a_value_is_one_bounded_line() {
        assert_eq!(checked_value("k", "1\t2\n").unwrap(), "1\t2");
        for value in ["1\n2", "\0", &"1".repeat(VALUE_MAX + 1)] {
            assert!(checked_value("k", value).is_err(), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_key_is_below_net(written in "[net./IFNAME\u{e4} ]{0,24}") {
            if let Ok(key) = key(&written, "eth0") {
                prop_assert!(key.starts_with("net/"));
                prop_assert!(key.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
