//! The settings of the host.

use std::path::Path;

use cluster::settings::{SIZE_MAX, Settings};
use cni::Error;

/// Reads and checks the settings.
///
/// # Errors
/// Code 7: the file is missing, cannot be read, or something in it is wrong; its path and the key.
pub fn read(path: &Path) -> Result<Settings, Error> {
    let content = sys::file::read(path, SIZE_MAX).map_err(|error| {
        let error = Error::from(error);
        Error::invalid_config(error.msg).details(error.details)
    })?;
    let settings = Settings::parse(path, content.as_deref());
    settings.map_err(|error| Error::invalid_config(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// O-095: code 7, with the file.
    #[test]
    fn a_missing_or_malformed_file_is_an_invalid_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        let missing = read(&path).unwrap_err();
        fs::write(&path, "{}").unwrap();
        let empty = read(&path).unwrap_err();
        fs::write(&path, vec![b' '; SIZE_MAX + 1]).unwrap();
        let long = read(&path).unwrap_err();
        let name = path.display().to_string();
        for error in [missing, empty, long, read(dir.path()).unwrap_err()] {
            assert_eq!(error.code, 7, "{}", error.msg);
            assert!(
                error.msg.contains(&name) || error.msg.contains(&*dir.path().to_string_lossy()),
                "{}",
                error.msg
            );
        }
        fs::write(&path, r#"{"endpoints": ["https://a:2379"]}"#).unwrap();
        assert_eq!(read(&path).unwrap().endpoints, ["https://a:2379"]);
    }
}
