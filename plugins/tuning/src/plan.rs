//! The pieces of an attachment. Pure.

use host::piece::{LinkSettings, Piece, TunedLink, TunedParameter, TunedParameters};

use crate::config::Config;

/// What the kernel has before ADD, of what the configuration sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The link's settings.
    pub link: LinkSettings,
    /// The parameters, in the order of the configuration; `None` if the kernel does not print one.
    pub parameters: Vec<Option<String>>,
}

/// Parameters first, as the reference does: some of them concern the link's change.
pub fn plan(config: &Config, ifname: &str, facts: &Facts) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let before = facts.parameters.iter().cloned().chain(std::iter::repeat(None));
    let settings = config.parameters.iter().zip(before).map(|(parameter, before)| TunedParameter {
        key: parameter.key.clone(),
        value: parameter.value.clone(),
        before,
    });
    if !config.parameters.is_empty() {
        pieces.push(Piece::TunedParameters(TunedParameters { settings: settings.collect() }));
    }
    if !config.link.is_empty() {
        pieces.push(Piece::TunedLink(TunedLink {
            link: ifname.to_owned(),
            settings: config.link,
            before: facts.link,
        }));
    }
    pieces
}
