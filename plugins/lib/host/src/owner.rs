//! The owner of an object, and the names derived from it.
//!
//! Every object that a plugin creates is found again by its owner: the host veth by its name, which
//! is a hash of the owner, and by the label in its alias. So DEL with the same ids finds what a
//! killed ADD left, even after the namespace is gone.

pub(crate) use sys::fnv1a;

/// An attachment: the owner of every object created for it, and the identity by which they are
/// found again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface's name in the container.
    pub ifname: String,
}

/// The number of names derived for one owner: the first one that is free, or already ours, is used.
const CANDIDATES: u8 = 4;

/// The lowest index of our own links: the kernel numbers links from 1, and accepts positive numbers
/// only.
const OWNED_INDICES: u32 = 1 << 30;

/// The longest part of a label that is written in full; a longer one is cut, and completed by its
/// hash.
const PART_MAX: usize = 100;

impl Owner {
    /// The owner of these names.
    pub fn new(
        network: impl Into<String>,
        container_id: impl Into<String>,
        ifname: impl Into<String>,
    ) -> Self {
        Self { network: network.into(), container_id: container_id.into(), ifname: ifname.into() }
    }

    /// The possible names of this owner's host veth, in the order they are tried: `veth` and 8 hex
    /// digits. All but the first are used only if the hashes of two owners collide.
    pub fn host_veth_names(&self) -> impl Iterator<Item = String> + '_ {
        (0..CANDIDATES).map(|salt| {
            let parts = [&self.network, "/", &self.ifname, "/", &self.container_id];
            let hash = fnv1a(parts.iter().flat_map(|part| part.bytes()).chain([salt]));
            format!("veth{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
        })
    }

    /// The owner as one line, for an alias or a comment: `moor/<network>/<ifname>/<container id>`.
    /// No part contains a slash, so two owners never share a label. At most 255 bytes (IFALIASZ,
    /// linux/if.h, without its NUL).
    pub fn label(&self) -> String {
        format!("{}{}/{}", Self::label_prefix(&self.network), part(&self.ifname), part(&self.container_id))
    }

    /// The owner that a label names; `None` if a part of it was cut.
    pub fn of_label(label: &str) -> Option<Self> {
        let mut parts = label.strip_prefix("moor/")?.splitn(3, '/').map(str::to_owned);
        let (network, ifname, container_id) = (parts.next()?, parts.next()?, parts.next()?);
        let owner = Self { network, container_id, ifname };
        // A cut part looks like a whole one of that length.
        let is_cut = |part: &String| part.len() == PART_MAX && part.contains('~');
        (!is_cut(&owner.network) && !is_cut(&owner.ifname) && !is_cut(&owner.container_id)).then_some(owner)
    }

    /// Whether a label is this attachment's, even if the network had another name when it was
    /// written: no two attachments have the same container id and interface name.
    pub fn is_in(&self, label: &str) -> bool {
        label
            .strip_prefix("moor/")
            .and_then(|rest| rest.split_once('/'))
            .and_then(|(_, rest)| rest.split_once('/'))
            .is_some_and(|(ifname, id)| ifname == part(&self.ifname) && id == part(&self.container_id))
    }

    /// Whether a label is that of an attachment of the same container.
    pub fn has_same_container(&self, label: &str) -> bool {
        label.rsplit_once('/').is_some_and(|(_, id)| id == part(&self.container_id))
    }

    /// The owner as a non-zero number, for places that hold no text. Two owners have the same
    /// number once in some billions of pairs.
    pub fn tag(&self) -> u32 {
        tag_of_label(&self.label())
    }

    /// The index of the owner's stacked link in its container's namespace. A container may rename
    /// its link and change its alias, but nobody can change a link's index.
    pub fn link_index(&self) -> u32 {
        OWNED_INDICES | self.tag() & (OWNED_INDICES - 1)
    }

    /// Whether a link's index is some owner's [`Owner::link_index`].
    pub fn has_link_index(index: u32) -> bool {
        index & OWNED_INDICES != 0
    }

    /// The label of what all attachments of a network share: it names none of them.
    pub(crate) fn network_label(network: &str) -> String {
        format!("moor/{}", part(network))
    }

    /// The prefix of the labels of all owners of one network.
    pub fn label_prefix(network: &str) -> String {
        format!("moor/{}/", part(network))
    }
}

/// The index of a link of our own that attachments share, by a text that names it: see
/// [`Owner::has_link_index`].
pub(crate) fn shared_link_index(text: &str) -> u32 {
    OWNED_INDICES | tag_of_label(text) & (OWNED_INDICES - 1)
}

/// [`Owner::tag`] of the owner with that label.
pub(crate) fn tag_of_label(label: &str) -> u32 {
    let hash = fnv1a(label.bytes());
    u32::try_from((hash >> 32) ^ (hash & 0xffff_ffff)).unwrap_or(1).max(1)
}

/// A part of a label, limited in length: a hash of the whole replaces the tail of a long one.
pub(crate) fn part(text: &str) -> String {
    match text.get(..PART_MAX - 17) {
        Some(head) if text.len() > PART_MAX => format!("{head}~{:016x}", fnv1a(text.bytes())),
        _ => text.to_owned(),
    }
}

/// A hash that is the same in a restarted process: for derived names and addresses.
pub fn hash(text: &str) -> u64 {
    fnv1a(text.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(network: &str, container_id: &str, ifname: &str) -> Owner {
        Owner::new(network, container_id, ifname)
    }

    #[test]
    fn host_veth_names_are_the_same_at_every_call_and_fit_a_link_name() {
        let names: Vec<_> = owner("net", "c1", "eth0").host_veth_names().collect();
        assert_eq!(names, owner("net", "c1", "eth0").host_veth_names().collect::<Vec<_>>());
        assert!(names.iter().all(|name| name.len() == 12 && name.starts_with("veth")));
        // Names in use on running nodes: a change of the derivation would orphan them.
        assert_eq!(names[0], "veth88c0c6d0");
    }

    #[test]
    fn candidates_differ_and_owners_differ() {
        let mut names: Vec<_> = owner("net", "c1", "eth0").host_veth_names().collect();
        names.extend(owner("net", "c1", "eth1").host_veth_names());
        names.extend(owner("net2", "c1", "eth0").host_veth_names());
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_label_is_known_again_after_the_network_was_renamed_and_by_nobody_else() {
        let long = "c".repeat(300);
        for id in ["c1", &long] {
            let label = owner("net", id, "eth0").label();
            assert!(owner("net", id, "eth0").is_in(&label) && owner("renamed", id, "eth0").is_in(&label));
            assert!(!owner("net", id, "eth1").is_in(&label) && !owner("net", "c2", "eth0").is_in(&label));
        }
        assert!(!owner("net", "c1", "eth0").is_in("moor/net/c1") && !owner("", "", "").is_in("whatever"));
    }

    #[test]
    fn a_label_gives_its_owner_back_unless_it_was_cut() {
        let whole = owner("net", "c1", "eth0");
        assert_eq!(Owner::of_label(&whole.label()), Some(whole));
        assert_eq!(Owner::of_label(&owner("net", &"c".repeat(101), "eth0").label()), None);
        assert_eq!(Owner::of_label("moor/net/eth0"), None);
        assert_eq!(Owner::of_label("somebody"), None);
    }

    #[test]
    fn tags_of_two_owners_differ_and_are_stable() {
        let tags = ["c1", "c2", "c3"].map(|id| owner("net", id, "eth0").tag());
        assert!(tags.iter().all(|tag| *tag != 0) && tags[0] != tags[1] && tags[1] != tags[2]);
        assert_ne!(tags[0], owner("second", "c1", "eth0").tag());
        // In the kernels of running nodes: a change of the derivation would orphan their routes.
        assert_eq!(tags[0], 1_968_488_486);
    }

    #[test]
    fn a_link_index_is_a_positive_number_of_its_owners() {
        for id in 0..1000 {
            let index = owner("net", &format!("c{id}"), "eth0").link_index();
            assert!(Owner::has_link_index(index) && i32::try_from(index).is_ok_and(|index| index > 0));
        }
        assert!(!Owner::has_link_index(1_000_000));
        // In the kernels of running nodes: a change of the derivation would orphan their links.
        assert_eq!(owner("net", "c1", "eth0").link_index(), 1_968_488_486);
    }

    #[test]
    fn a_label_names_its_owner_and_is_bounded() {
        assert_eq!(owner("net", "c1", "eth0").label(), "moor/net/eth0/c1");
        let long = owner(&"n".repeat(300), &"c".repeat(5000), "eth0");
        assert!(long.label().len() <= 255, "{}", long.label().len());
        assert!(long.label().starts_with(&Owner::label_prefix(&long.network)));
        assert_ne!(long.label(), owner(&"n".repeat(300), &"c".repeat(5001), "eth0").label());
    }
}
