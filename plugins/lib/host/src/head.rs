//! What this release can read of a record of any version, or of one that is damaged further down:
//! whose it is, and where the container is. Lines of these kinds have the same meaning in all
//! versions.

use std::str::SplitWhitespace;

use sys::file;

use crate::{Namespace, Owner};

/// The head of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The attachment.
    pub owner: Owner,
    /// The container's network namespace, if the record has one.
    pub netns: Option<Namespace>,
}

impl Head {
    /// Reads it; `None` for what is no record of an attachment.
    pub(crate) fn of(record: &[u8]) -> Option<Self> {
        file::version(record)?;
        let text = String::from_utf8_lossy(record);
        let mut lines = text.lines().skip(1);
        let owner = words(lines.next()?, "owner").and_then(owner)?;
        let netns = lines.filter_map(|line| words(line, "netns")).find_map(namespace);
        Some(Self { owner, netns })
    }
}

fn words<'a>(line: &'a str, kind: &str) -> Option<SplitWhitespace<'a>> {
    let mut words = line.split_whitespace();
    (words.next() == Some(kind)).then_some(words)
}

fn owner(mut words: SplitWhitespace<'_>) -> Option<Owner> {
    let (network, ifname, container_id) = (words.next()?, words.next()?, words.next()?);
    Some(Owner::new(network, container_id, ifname))
}

fn namespace(mut words: SplitWhitespace<'_>) -> Option<Namespace> {
    let inode = words.next()?.parse().ok()?;
    Some(Namespace { inode, path: words.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_any_version_shows_whose_a_record_is() {
        let owner = Owner::new("net", "c1", "eth0");
        let netns = Some(Namespace { path: "/run/netns/c1".into(), inode: 7 });
        for (text, head) in [
            ("v 1\nowner net eth0 c1\n", Some(Head { owner: owner.clone(), netns: None })),
            ("v 9\nowner net eth0 c1\nquux 1\nnetns 7 /run/netns/c1\n", Some(Head { owner, netns })),
            ("v 9\nquux 1\nowner net eth0 c1\n", None),
            ("v 1\nowner net eth0\n", None),
            ("owner net eth0 c1\n", None),
            ("", None),
        ] {
            assert_eq!(Head::of(text.as_bytes()), head, "{text:?}");
        }
        assert_eq!(Head::of(b"\xff\xfe"), None);
    }
}
