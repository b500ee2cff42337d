//! Where a request has a container's names.

use std::collections::BTreeMap;

use cni::{Error, Json, Request, shortened};
use serde::Deserialize;

use crate::syntax::{self, Invalid, NAMES_MAX};

/// Bytes of all names in one list.
const LIST_MAX: usize = 16 << 10;

/// The keys as written. `null` is the same as absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    short_id: Option<bool>,
    invalid_names: Option<String>,
    runtime_config: RuntimeConf,
    args: ArgsConf,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuntimeConf {
    aliases: Option<Json>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArgsConf {
    cni: ArgsCni,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArgsCni {
    names: Option<Vec<String>>,
}

/// What a plugin says about names beyond the keys that all of them have.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Whose line on standard error names an invalid name that is ignored.
    pub plugin: &'a str,
    /// The domain that must fit behind each name.
    pub domain: Option<&'a str>,
    /// Whether an invalid name is ignored if `invalidNames` is absent.
    pub skip_invalid: bool,
    /// Whether a name that may belong to somebody else is invalid: see [`crate::is_external`].
    pub refuse_external: bool,
}

impl<'a> Rules<'a> {
    /// No domain, an invalid name is an error, and a name may have dots.
    pub fn of(plugin: &'a str) -> Self {
        Self { plugin, domain: None, skip_invalid: false, refuse_external: false }
    }
}

/// The names that a request has, in order of precedence: `K8S_POD_NAME`, `runtimeConfig.aliases`,
/// `args.cni.names`, the short id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    network: String,
    pod_name: Option<String>,
    aliases: Vec<String>,
    names: Vec<String>,
    short_id: String,
    with_short_id: bool,
    skip_invalid: Option<bool>,
}

impl Sources {
    /// Reads the keys `shortId`, `invalidNames`, `runtimeConfig.aliases` and `args.cni.names`, and
    /// `K8S_POD_NAME` of `CNI_ARGS`.
    ///
    /// # Errors
    /// A key has another type, or `invalidNames` has another value.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let skip_invalid = match conf.invalid_names.as_deref().unwrap_or_default() {
            "" => None,
            "error" => Some(false),
            "skip" => Some(true),
            other => {
                let other = shortened(other);
                return Err(Error::invalid_config(format!("invalid invalidNames {other:?}: error or skip")));
            }
        };
        Ok(Self {
            network: request.network.clone(),
            pod_name: pod_name(&request.args),
            aliases: aliases(conf.runtime_config.aliases.as_ref(), &request.network)?,
            names: conf.args.cni.names.unwrap_or_default(),
            short_id: syntax::short_id(&request.container_id),
            with_short_id: conf.short_id.unwrap_or(true),
            skip_invalid,
        })
    }

    /// The names: in lower case, without duplicates, the primary name first; never empty.
    ///
    /// # Errors
    /// One is invalid and not to be ignored, or there are more than [`NAMES_MAX`].
    pub fn names(self, rules: Rules<'_>) -> Result<Vec<String>, Error> {
        let skip = self.skip_invalid.unwrap_or(rules.skip_invalid);
        let checked = |text: &str| match syntax::parse(text, rules.domain)? {
            name if rules.refuse_external && syntax::is_external(&name, rules.domain, &self.network) => {
                Err(Invalid::Reserved("it has dots, and dottedNames is \"refuse\""))
            }
            name => Ok(name),
        };
        let mut all = Vec::new();
        let sources = [
            ("K8S_POD_NAME", self.pod_name.into_iter().collect()),
            ("runtimeConfig.aliases", self.aliases),
            ("args.cni.names", self.names),
        ];
        for (source, list) in sources {
            if list.iter().map(String::len).sum::<usize>() > LIST_MAX {
                return Err(Error::invalid_config(format!(
                    "{source}: names are longer than {LIST_MAX} bytes together"
                )));
            }
            for text in list {
                match checked(&text) {
                    Ok(name) => all.push(name),
                    Err(why) if skip => log_ignored(rules.plugin, source, &text, &why),
                    Err(why) => {
                        return Err(Error::invalid_config(format!(
                            "{source}: {:?} is not a valid name: {}",
                            shortened(&text),
                            why.reason()
                        ))
                        .details("set invalidNames: \"skip\" to ignore it"));
                    }
                }
            }
        }
        if self.with_short_id || all.is_empty() {
            all.push(self.short_id);
        }
        syntax::deduplicate(all).map_err(|_| Error::invalid_config(format!("more than {NAMES_MAX} names")))
    }
}

fn log_ignored(plugin: &str, source: &str, text: &str, why: &Invalid) {
    eprintln!("{plugin}: {source}: {:?} is ignored: {}", shortened(text), why.reason());
}

/// The pod's name. Other keys are ignored, valid or not: `CNI_ARGS` is for all plugins of a
/// list.
pub fn pod_name(args: &str) -> Option<String> {
    let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    let last = pairs.rev().find(|(key, _)| *key == "K8S_POD_NAME");
    last.map(|(_, name)| name.to_owned()).filter(|name| !name.is_empty())
}

/// A list, as the CNI conventions have it, or a list for each network, as runtimes pass to
/// dnsname.
fn aliases(value: Option<&Json>, network: &str) -> Result<Vec<String>, Error> {
    let wrong = |error: cni::DecodeError| {
        let error = error.below("aliases").below("runtimeConfig");
        Error::internal(format!("failed to load netconf: {error}"))
    };
    match value {
        None => Ok(Vec::new()),
        Some(map @ Json::Object(_)) => {
            let mut of_networks: BTreeMap<String, Option<Vec<String>>> = map.decode().map_err(wrong)?;
            Ok(of_networks.remove(network).flatten().unwrap_or_default())
        }
        Some(list) => list.decode().map_err(wrong),
    }
}

#[cfg(test)]
mod tests;
