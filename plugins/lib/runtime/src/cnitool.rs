//! Values that cnitool derives from its arguments, for tools that must find the same attachments.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha512};

/// The interface of cnitool without its flag and `CNI_IFNAME`.
pub const DEFAULT_IFNAME: &str = "eth0";

/// The path of a namespace as cnitool uses it: absolute, and without `.`, `..` and repeated
/// slashes. The path need not exist: only its text counts.
pub fn absolute(netns: &Path) -> io::Result<PathBuf> {
    let whole = if netns.is_absolute() { netns.to_owned() } else { std::env::current_dir()?.join(netns) };
    let mut clean = PathBuf::from("/");
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// `cnitool-` and the first 20 hexadecimal digits of the SHA-512 of the namespace's path. Pass the
/// path that [`absolute`] returns: its spelling matters.
pub fn container_id(netns: &Path) -> String {
    let hash = Sha512::digest(netns.as_os_str().as_bytes());
    let digits: String = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("cnitool-{digits}")
}

/// Parses `CNI_ARGS` as cnitool does, more strictly than plugins: pairs `K=V` joined by `;`, with
/// one `=` and no empty part. An empty text has no pairs.
pub fn parse_args(text: &str) -> Result<Vec<(String, String)>, BadPair> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    text.split(';')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(BadPair(pair.to_owned())),
        })
        .collect()
}

/// This element of `CNI_ARGS` is not a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPair(pub String);

impl fmt::Display for BadPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid CNI_ARGS pair {:?}", self.0)
    }
}

impl std::error::Error for BadPair {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected id is cnitool's.
    #[test]
    fn the_container_id_is_derived_from_the_path_as_spelled() {
        assert_eq!(container_id(Path::new("/var/run/netns/testing")), "cnitool-77383ca0a0715733ca6f");
        assert_ne!(container_id(Path::new("/run/netns/testing")), "cnitool-77383ca0a0715733ca6f");
    }

    #[test]
    fn absolute_only_uses_the_text_of_a_path() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("/a//b/./../c/")).unwrap(), Path::new("/a/c"));
        assert_eq!(absolute(Path::new("/../x")).unwrap(), Path::new("/x"));
        assert_eq!(absolute(Path::new("x")).unwrap(), here.join("x"));
    }

    /// Like cnitool, this is stricter than plugins (C-090).
    #[test]
    fn a_pair_without_key_or_value_is_refused() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(parse_args(""), Ok(vec![]));
        assert_eq!(parse_args("A=1;B=2"), Ok(vec![pair("A", "1"), pair("B", "2")]));
        for bad in ["A", "A=", "=1", "A=1=2"] {
            assert_eq!(parse_args(bad), Err(BadPair(bad.into())));
        }
        assert_eq!(parse_args("A=1;").unwrap_err().to_string(), "invalid CNI_ARGS pair \"\"");
    }
}
