//! The names and comments of the reference's chains (containernetworking/plugins), which ours must
//! match: executables are swapped under running containers, in both directions (PM-I1, BR-I1).

use std::fmt::Write as _;

use sha2::{Digest, Sha512};

/// The length of a derived chain name.
const NAME_MAX: usize = 28;
/// The longest comment, in bytes; a longer one is cut and ends with three dots.
const COMMENT_MAX: usize = 255;
const COMMENT_CUT: usize = 253;

/// Jumps to the chains of containers with published ports.
pub const SUMMARY: &str = "CNI-HOSTPORT-DNAT";
/// Marks packets to masquerade.
pub const SET_MARK: &str = "CNI-HOSTPORT-SETMARK";
/// Masquerades marked packets.
pub const MASQUERADE: &str = "CNI-HOSTPORT-MASQ";

/// The chain of a container with published ports.
pub fn ports_chain(network: &str, container_id: &str) -> String {
    chain("CNI-DN-", network, container_id)
}

/// The additional chain of older versions of the reference.
pub fn old_ports_chain(network: &str, container_id: &str) -> String {
    chain("CNI-SN-", network, container_id)
}

/// The chain of a masqueraded container.
pub fn masquerade_chain(network: &str, container_id: &str) -> String {
    chain("CNI-", network, container_id)
}

/// The comment of a rule that leads to a container's ports.
pub fn ports_comment(network: &str, container_id: &str) -> String {
    let mut comment = format!("dnat name: \"{network}\" id: \"{container_id}\"");
    // (Names and ids are ASCII, as the runtime's protocol requires.)
    if comment.len() > COMMENT_MAX
        && let Some(head) = comment.get(..COMMENT_CUT)
    {
        comment = format!("{head}...");
    }
    comment
}

/// The comment of a masqueraded container's rules.
pub fn masquerade_comment(network: &str, container_id: &str) -> String {
    format!("name: \"{network}\" id: \"{container_id}\"")
}

/// The prefix, and as many hex digits of the SHA-512 of network and container as fit.
fn chain(prefix: &str, network: &str, container_id: &str) -> String {
    let mut name = format!("{prefix}{}", hash(&[network, container_id]));
    name.truncate(NAME_MAX);
    name
}

/// The hex digits of the SHA-512 of the concatenated texts.
pub(crate) fn hash(texts: &[&str]) -> String {
    let mut hash = Sha512::new();
    texts.iter().for_each(|text| hash.update(text));
    hash.finalize().iter().fold(String::new(), |mut digits, byte| {
        // Writing to a string does not fail.
        let _ = write!(digits, "{byte:02x}");
        digits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PM-I1, BR-I1: names created by the reference's own executables.
    #[test]
    fn names_are_those_that_the_reference_derives() {
        assert_eq!(ports_chain("n", "id1"), "CNI-DN-b40d6be49a3410ab31bc2");
        assert_eq!(ports_chain("test", "icee6giejonei6so"), "CNI-DN-022110f36292712c8bb50");
        assert_eq!(old_ports_chain("n", "id1"), "CNI-SN-b40d6be49a3410ab31bc2");
        assert_eq!(masquerade_chain("test", "1234"), "CNI-2bbe0c48b91a7d1b8a6753a8");
        assert_eq!(masquerade_chain("mynet", "cid1"), "CNI-a631aa8e1549a3b129110fd2");
    }

    /// PM-I1: one byte too long, as in the reference.
    #[test]
    fn a_long_comment_is_cut_as_the_reference_cuts_it() {
        assert_eq!(ports_comment("net", "c1"), "dnat name: \"net\" id: \"c1\"");
        let rest = ports_comment("net", "").len();
        let of = |bytes: usize| ports_comment("net", &"c".repeat(bytes - rest));
        assert!(of(255).len() == 255 && of(255).ends_with("c\""));
        let long = of(256);
        assert!(
            long.len() == 256 && long.ends_with("c...") && long.starts_with("dnat name: \"net\" id: \"cc")
        );
    }
}
