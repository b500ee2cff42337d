//! Finds a plugin's executable.

use std::path::{Path, PathBuf};

use crate::ExecError;

/// The first regular file `<dir>/<plugin_type>` (C-080). It follows symbolic links, ignores the
/// executable bit and skips missing directories.
pub fn find_plugin(plugin_type: &str, cni_path: &[PathBuf]) -> Result<PathBuf, ExecError> {
    if cni_path.is_empty() {
        return Err(ExecError::NoPath);
    }
    if plugin_type.is_empty() {
        return Err(ExecError::NoName);
    }
    if plugin_type.contains('/') {
        return Err(ExecError::BadName(plugin_type.to_owned()));
    }
    cni_path
        .iter()
        .map(|dir| dir.join(plugin_type))
        .find(|path: &PathBuf| Path::is_file(path))
        .ok_or_else(|| ExecError::NotFound { plugin_type: plugin_type.to_owned(), path: cni_path.to_vec() })
}
