//! Installing a release as package managers do: each file is written beside its place and renamed
//! over it. At no moment is a name missing, or half a file.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Installs these files of a directory into another. Names of one file are names of one file there,
/// too.
pub fn install(from: &Path, to: &Path, names: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let mut installed: Vec<((u64, u64), PathBuf)> = Vec::new();
    for name in names {
        let (source, place) = (from.join(name), to.join(name));
        let done = || -> std::io::Result<(u64, u64)> {
            let about = fs::metadata(&source)?;
            let file = (about.dev(), about.ino());
            let draft = to.join(format!(".{name}.new"));
            match installed.iter().find(|(known, _)| *known == file) {
                Some((_, other)) => fs::hard_link(other, &draft)?,
                None => drop(fs::copy(&source, &draft)?),
            }
            fs::rename(&draft, &place)?;
            Ok(file)
        };
        let file = done().with_context(|| format!("install {}", source.display()))?;
        installed.push((file, place));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_use_keeps_its_content_and_names_of_one_file_stay_together() {
        let dir = tempfile::tempdir().unwrap();
        let [old, new, place] = ["old", "new", "place"].map(|name| dir.path().join(name));
        for from in [&old, &new] {
            fs::create_dir(from).unwrap();
            fs::write(from.join("bridge"), from.file_name().unwrap().as_encoded_bytes()).unwrap();
            fs::write(from.join("static"), "its own").unwrap();
        }
        fs::hard_link(new.join("bridge"), new.join("dns")).unwrap();
        install(&old, &place, &["bridge", "static"]).unwrap();
        let in_use = fs::File::open(place.join("bridge")).unwrap();
        install(&new, &place, &["bridge", "static", "dns"]).unwrap();
        assert_eq!(std::io::read_to_string(in_use).unwrap(), "old");
        assert_eq!(fs::read_to_string(place.join("bridge")).unwrap(), "new");
        let inode = |name: &str| fs::metadata(place.join(name)).unwrap().ino();
        assert_eq!(inode("bridge"), inode("dns"));
        assert_ne!(inode("bridge"), inode("static"));
        assert_eq!(fs::read_dir(&place).unwrap().count(), 3, "no draft is left");
        assert!(install(&old, &place, &["dns"]).is_err(), "the old one has none");
    }
}
