//! Whether two files are one build of an executable, without reading them whole.
//!
//! Installers overwrite plugins in place, which changes every hard link of a file, so plugins are
//! installed as copies. A copy is recognized by the linker's build id, a hash of everything that
//! the linker wrote.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// An ELF file begins with its headers; linkers put the notes right behind them.
const HEAD: usize = 1024;

/// The start of a note (elf(5), `Elf64_Nhdr`) that is a GNU build id of 20 bytes: lengths of name
/// and hash, type NT_GNU_BUILD_ID, name. A shorter hash does not identify a build.
const BUILD_ID: [[u8; 4]; 4] = [4_u32.to_ne_bytes(), 20_u32.to_ne_bytes(), 3_u32.to_ne_bytes(), *b"GNU\0"];
const BUILD_ID_BYTES: usize = 16 + 20;

/// Whether both paths lead to one file, or to copies of it: files of the same length with the same
/// head, which contains the build id. A file that cannot be read, or has no build id, does not
/// count as a copy.
pub(crate) fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (first, second) = (fs::metadata(one)?, fs::metadata(other)?);
    if (first.dev(), first.ino()) == (second.dev(), second.ino()) {
        return Ok(true);
    }
    if !first.is_file() || first.len() != second.len() {
        return Ok(false);
    }
    let head = head(one)?;
    Ok(has_build_id(&head) && head == self::head(other)?)
}

fn head(path: &Path) -> io::Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    File::open(path)?.read_exact_at(&mut head, 0)?;
    Ok(head)
}

/// Whether the head holds a whole build id.
fn has_build_id(head: &[u8; HEAD]) -> bool {
    let whole = head.get(..HEAD - BUILD_ID_BYTES).unwrap_or_default();
    (0..whole.len()).step_by(4).any(|at| head[at..].starts_with(BUILD_ID.as_flattened()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with a build id made of this byte, and `rest` behind the head.
    fn file(dir: &Path, name: &str, id: Option<u8>, rest: &[u8]) -> std::path::PathBuf {
        let mut bytes = vec![0; HEAD];
        if let Some(hash) = id {
            bytes[0x290..][..16].copy_from_slice(BUILD_ID.as_flattened());
            bytes[0x290 + 16..][..20].fill(hash);
        }
        bytes.extend(rest);
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn only_a_copy_is_the_same_build() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, id, rest: &[u8]| file(dir.path(), name, id, rest);
        let ours = file("ours", Some(1), b"code");
        let same = |other: &Path| is_same(other, &ours).unwrap_or(false);
        assert!(same(&ours));
        assert!(same(&file("copy", Some(1), b"code")));
        assert!(!same(&file("another_build", Some(2), b"code")));
        assert!(!same(&file("longer", Some(1), b"code and more")));
        assert!(!same(&dir.path().join("missing")));
        assert!(!same(dir.path()));
        let (without, alike) = (file("without", None, b"code"), file("alike", None, b"code"));
        assert!(!is_same(&without, &alike).unwrap(), "nothing shows that these are copies");
        let short = dir.path().join("short");
        fs::write(&short, "#!/bin/sh\n").unwrap();
        assert!(!same(&short));
    }
}
