//! The `dns` key of a configuration.

use serde::Deserialize;

use crate::{AddResult, Dns};

/// The resolvers of a network's configuration. They replace those of the IPAM plugin as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsConf {
    /// Server addresses, as text.
    pub nameservers: Option<Vec<String>>,
    /// The local domain; empty means unset.
    pub domain: String,
    /// Search domains.
    pub search: Option<Vec<String>>,
    /// Resolver options.
    pub options: Option<Vec<String>>,
}

impl DnsConf {
    /// Replaces the result's resolvers if any key is set here; an empty list counts as set.
    pub fn override_dns(&self, result: &mut AddResult) {
        let is_set = self.nameservers.is_some()
            || self.search.is_some()
            || self.options.is_some()
            || !self.domain.is_empty();
        if is_set {
            result.dns = Dns {
                nameservers: self.nameservers.clone().unwrap_or_default(),
                domain: self.domain.clone(),
                search: self.search.clone().unwrap_or_default(),
                options: self.options.clone().unwrap_or_default(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Json;
    use crate::json::tests::any_tree;

    fn overridden(conf: &str) -> Dns {
        let conf: DnsConf = Json::parse(conf.as_bytes()).unwrap().decode().unwrap();
        let dns = Dns { nameservers: vec!["10.0.0.1".into()], domain: "ipam".into(), ..Dns::default() };
        let mut result = AddResult { dns, ..AddResult::default() };
        conf.override_dns(&mut result);
        result.dns
    }

    /// The bridge's key `dns`.
    #[test]
    fn any_dns_key_replaces_the_ipam_plugins_dns() {
        for unset in ["{}", r#"{"nameservers":null,"domain":""}"#, r#"{"unknown":1}"#] {
            assert_eq!(overridden(unset).domain, "ipam", "{unset}");
        }
        for empty in [r#"{"nameservers":[]}"#, r#"{"search":[]}"#, r#"{"Options":[]}"#] {
            assert!(overridden(empty).is_empty(), "{empty}");
        }
        let domain = overridden(r#"{"domain":"a.b"}"#);
        assert_eq!((domain.domain.as_str(), domain.nameservers.len()), ("a.b", 0));
    }

    proptest! {
        #[test]
        fn no_tree_makes_the_decoder_of_dns_panic(tree in any_tree()) {
            let _ = tree.decode::<DnsConf>().is_ok();
        }
    }
}
