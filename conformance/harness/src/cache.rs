//! Files that `make tools-*` fetches into the user's cache.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The user's cache directory for this kind of file.
pub fn directory(kind: &str) -> Result<PathBuf> {
    let named = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")));
    Ok(cache.context("neither XDG_CACHE_HOME nor HOME is set")?.join("moor").join(kind))
}

/// A file of the packages that `.ci/tools KIND` unpacked.
pub fn unpacked(kind: &str, path: &str) -> Result<PathBuf> {
    let path = directory(kind)?.join(path);
    ensure!(path.is_file(), "{} is missing: `make tools-{kind}` fetches it", path.display());
    Ok(path)
}
