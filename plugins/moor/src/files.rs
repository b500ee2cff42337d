//! Files that others write: a name may lead to a pipe, a device, or without end.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// Reads a regular file of at most `limit` bytes. It waits for nobody: a pipe is refused.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_described(path, limit).map(|(bytes, _)| bytes)
}

/// The same, and what the kernel has about the file that was read.
pub fn read_described(path: &Path, limit: u64) -> io::Result<(Vec<u8>, Metadata)> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    // One more than there is, so that the end is found without a larger block.
    let mut bytes = Vec::with_capacity(usize::try_from(about.len().min(limit)).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok((bytes, about))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        std::fs::write(&file, "12345").unwrap();
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        assert_eq!(read(&file, 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(&pipe, 4).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(read(dir.path(), 4).is_err());
    }
}
