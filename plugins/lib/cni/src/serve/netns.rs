//! The container's namespace must not be the plugin's own (C-110..C-112).

use std::fs::{Metadata, metadata};
use std::os::unix::fs::MetadataExt;

use crate::{Code, Error};

/// Runs before anything is changed. It ignores a path that cannot be read: ADD or DEL reports it.
pub(super) fn refuse_own(netns: &str) -> Result<(), Error> {
    if netns.is_empty() {
        return Ok(());
    }
    let identity = |file: Metadata| (file.dev(), file.ino());
    let Ok(theirs) = metadata(netns).map(identity) else { return Ok(()) };
    match metadata("/proc/thread-self/ns/net").map(identity) {
        Ok(ours) if ours == theirs => Err(Error::new(
            Code::InvalidNetNs,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )),
        _ => Ok(()),
    }
}
