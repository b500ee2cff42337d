//! The network that a word on the command line means.

use crate::failure::Failure;
use crate::networks::{Network, Networks};
use crate::suggest::nearest;

/// The fewest characters of an id that name a network.
const ID_MIN: usize = 3;

/// The network of that name, else the only one whose id begins so. `None` when there is none.
pub fn find<'n>(networks: &'n Networks, word: &str) -> Result<Option<&'n Network>, Failure> {
    if let Some(network) = networks.named(word) {
        return Ok(Some(network));
    }
    if word.len() < ID_MIN || !word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut found: Vec<&Network> = Vec::new();
    for network in networks.all.iter().filter(|network| network.id.starts_with(word)) {
        if !found.iter().any(|other| other.id == network.id) {
            found.push(network);
        }
    }
    match found[..] {
        [] => Ok(None),
        [network] => Ok(Some(network)),
        _ => {
            let names = found.iter().map(|network| network.name()).collect::<Vec<_>>().join(", ");
            Err(Failure::refused(format!("id {word} is ambiguous: {names}")))
        }
    }
}

/// As [`find`]; a missing one is a failure that proposes what was meant.
pub fn existing<'n>(networks: &'n Networks, word: &str) -> Result<&'n Network, Failure> {
    find(networks, word)?.ok_or_else(|| missing(networks, word))
}

/// What is reported of a missing network.
pub fn missing(networks: &Networks, word: &str) -> Failure {
    let shown: String = word.chars().take(100).collect();
    let failure = match networks.notes.len() {
        0 => Failure::refused(format!("no such network: {shown}")),
        // It may be one of those that cannot be read.
        _ => {
            Failure::incomplete(format!("no such network: {shown} (and there are files that cannot be read)"))
        }
    };
    match nearest(word, networks.all.iter().map(Network::name)) {
        Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
        None => failure,
    }
}
