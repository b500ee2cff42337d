//! Namespaces that a mount keeps alive.

use std::path::PathBuf;

use nix::sys::stat::makedev;

use super::NamespaceId;

/// A mount of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceMount {
    /// The namespace.
    pub id: NamespaceId,
    /// Where it is mounted.
    pub path: PathBuf,
}

/// The mounts of network namespaces in a `mountinfo`.
pub fn namespace_mounts(mountinfo: &str) -> Vec<NamespaceMount> {
    mountinfo.lines().filter_map(namespace_mount).collect()
}

fn namespace_mount(line: &str) -> Option<NamespaceMount> {
    let (fields, after) = line.split_once(" - ")?;
    if after.split(' ').next()? != "nsfs" {
        return None;
    }
    let mut fields = fields.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    let device = makedev(major.parse().ok()?, minor.parse().ok()?);
    let inode = fields.next()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
    Some(NamespaceMount { id: NamespaceId { device, inode }, path: unescaped(fields.next()?).into() })
}

/// The kernel writes a space, a tab, a line break and a backslash as `\` and three octal digits.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.map_or('\\', char::from));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_network_namespaces_alone_are_taken() {
        let text = "24 1 0:22 / /proc rw - proc proc rw\n\
            90 26 0:4 net:[4026532567] /run/netns/a\\040b rw shared:40 - nsfs nsfs rw\n\
            91 26 0:4 mnt:[4026532568] /run/x rw - nsfs nsfs rw\nbroken\n";
        let id = NamespaceId { device: 4, inode: 4_026_532_567 };
        assert_eq!(namespace_mounts(text), [NamespaceMount { id, path: "/run/netns/a b".into() }]);
    }
}
