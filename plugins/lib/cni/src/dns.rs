//! The `dns` key of a configuration.

use serde::Deserialize;

use crate::{AddResult, Dns};

/// What a network's configuration says about resolvers. It stands in place of the IPAM plugin's as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DnsConf {
    /// Server addresses, as text.
    pub nameservers: Option<Vec<String>>,
    /// The local domain; empty is unset.
    pub domain: String,
    /// Search domains.
    pub search: Option<Vec<String>>,
    /// Resolver options.
    pub options: Option<Vec<String>>,
}

impl DnsConf {
    /// Replaces the result's resolvers if anything is said here; an empty list says something.
    pub fn override_dns(&self, result: &mut AddResult) {
        let said = self.nameservers.is_some()
            || self.search.is_some()
            || self.options.is_some()
            || !self.domain.is_empty();
        if said {
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
    fn any_word_on_dns_replaces_the_ipam_plugins() {
        for silent in ["{}", r#"{"nameservers":null,"domain":""}"#, r#"{"unknown":1}"#] {
            assert_eq!(overridden(silent).domain, "ipam", "{silent}");
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
