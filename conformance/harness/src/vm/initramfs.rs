//! A cpio archive as the kernel unpacks it
//! (Documentation/driver-api/early-userspace/buffer-format.rst, "newc").

/// The type bits of an entry's mode; the other bits are its permissions.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive in progress.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; its parents must come first.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds an executable file.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE | 0o755, (0, 0), content);
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Appends the trailer and returns the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        // Magic, then inode, mode, uid, gid, links, mtime, size, the file's device, the device it
        // is, the name's size, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size(content.len()),
            0,
            0,
            major,
            minor,
            size(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents are padded to multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The format allows 4 GiB; our files are a few MiB.
fn size(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn an_entry_is_written_as_the_kernel_reads_it() {
        let mut archive = Archive::default();
        archive.file("init", b"hello");
        let bytes = archive.finish();
        let fields = [1, 0o100_755, 0, 0, 1, 0, 5, 0, 0, 0, 0, 5, 0].map(|field| format!("{field:08x}"));
        assert_eq!(&bytes[..110], format!("070701{}", fields.concat()).as_bytes());
        assert_eq!(bytes[110..130], *b"init\x00\x00hello\x00\x00\x00070701");
        assert!(bytes.ends_with(b"TRAILER!!!\0\0\0\0"));
        assert_eq!(bytes.len() % 4, 0);
    }

    #[test]
    fn a_device_has_its_numbers() {
        let mut archive = Archive::default();
        archive.device("dev/console", 5, 1);
        let bytes = archive.finish();
        assert_eq!(&bytes[14..22], b"00002180");
        assert_eq!(&bytes[78..94], b"0000000500000001");
    }
}
