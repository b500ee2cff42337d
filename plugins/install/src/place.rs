//! A directory of the host, in which each file changes by rename alone. In its subdirectory
//! [`STATE`] is what makes an install interruptible and reversible:
//!
//! - `SHA256SUMS`: what is ours. It has the new contents before the first of them is there, so a
//!   file is ours or another's at any moment.
//! - `kept/NAME`: the file of another that was there under that name: the same file by a second
//!   name, or a copy where the filesystem or the file's owner forbids that.
//! - `new`: the file that is being written.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::linkat;
use sys::file;

use crate::digest::Digest;
use crate::record::{Record, STATE};
use crate::source::Content;

const RECORD: &str = "SHA256SUMS";
const KEPT: &str = "kept";
const NEW: &str = "new";

/// Larger than any record, in bytes.
const RECORD_MAX: usize = 1 << 20;
/// The largest file of another that is copied, in bytes: several times the largest plugin.
const KEPT_MAX: usize = 256 << 20;
/// For root alone.
const PRIVATE: u32 = 0o600;
/// The permission bits of a file.
const MODE: u32 = 0o7777;

/// A directory of the host.
pub struct Place {
    dir: PathBuf,
    handle: File,
    record: Record,
}

/// What there is under a name.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Nothing,
    Ours {
        digest: Digest,
        mode: u32,
    },
    /// Another's file, or a link, a pipe, a device.
    Others {
        device: u64,
        inode: u64,
    },
}

/// What [`Place::put`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Put {
    /// The file was there, with this content and mode.
    Unchanged,
    /// The file is new, or replaces one of ours.
    Written,
    /// The file replaces another's, which is kept.
    Kept,
}

impl Place {
    /// Opens a directory that exists: one that does not is not mounted here.
    pub fn open(dir: &Path) -> Result<Self> {
        let handle = file::open_dir(dir)
            .with_context(|| format!("the host's directory must be mounted at {}", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), handle, record: Record::default() })
    }

    /// Fails if nothing here can be executed: the host's mount has that option, which a mount of it
    /// into the image's container has too. The container runtime would fail later, pod by pod.
    pub fn ensure_executables_run(&self) -> Result<()> {
        let flags =
            fstatvfs(&self.handle).with_context(|| format!("look at {}", self.dir.display()))?.flags();
        ensure!(
            !flags.contains(FsFlags::ST_NOEXEC),
            "nothing in {} can be executed: it is mounted noexec. Mount the host's directory with exec, or install into \
             another and name that in the runtime's configuration (bin_dir)",
            self.dir.display()
        );
        Ok(())
    }

    /// Waits until no other install or uninstall is under way here. The lock is that of the directory
    /// itself, so it leaves nothing.
    pub fn lock(&self) -> Result<()> {
        file::lock_bounded(&self.handle, &self.dir, file::Hold::Alone, file::PATIENCE)?;
        Ok(())
    }

    /// Reads what is ours; with the lock.
    pub fn load(&mut self) -> Result<()> {
        let path = self.state(RECORD);
        let text = file::read(&path, RECORD_MAX)?.unwrap_or_default();
        self.record = Record::parse(&text).with_context(|| {
            format!(
                "read {}: remove {} to take all files for another's",
                path.display(),
                self.dir.join(STATE).display()
            )
        })?;
        Ok(())
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the file of that name is there and ours.
    pub fn is_ours(&self, name: &str) -> Result<bool> {
        Ok(matches!(self.found(name)?, Found::Ours { .. }))
    }

    /// Fails if there is a directory under that name.
    pub fn ensure_no_directory(&self, name: &str) -> Result<()> {
        let path = self.dir.join(name);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
        ensure!(!is_dir, "{} is a directory: move it away", path.display());
        Ok(())
    }

    /// Puts these files there, and takes away what an earlier install put there beside them. Reports
    /// each file that was not there.
    pub fn hold(
        &mut self,
        files: &[(&str, &Content)],
        mode: u32,
        report: &mut impl FnMut(&str, Put),
    ) -> Result<()> {
        let mut wanted = Record::default();
        let mut both = self.record.clone();
        for (name, content) in files {
            wanted.add(name, content.digest);
            both.add(name, content.digest);
        }
        file::make_private_dir(&self.state(KEPT), 2)?;
        self.write_record(both)?;
        for (name, _) in files {
            if let Found::Others { device, inode } = self.found(name)? {
                self.keep(name, (device, inode))?;
            }
        }
        // Before the first rename: after a power cut too, what is gone from its place is kept.
        sync(&self.state(KEPT))?;
        for (name, content) in files {
            report(name, self.put(name, content, mode)?);
        }
        let stale = self.record.names().filter(|name| !files.iter().any(|(wanted, _)| wanted == name));
        for name in stale.map(str::to_owned).collect::<Vec<_>>() {
            self.take_back(&name)?;
        }
        self.sync()?;
        self.write_record(wanted)
    }

    /// Gives back all that was there before, under every name that we have used. Returns the names
    /// that were taken away or given back.
    pub fn release(&mut self) -> Result<Vec<String>> {
        let state = self.dir.join(STATE);
        if !file::has_private_dir(&state, 1)? {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = self.record.names().map(str::to_owned).collect();
        names.extend(kept(&self.state(KEPT))?);
        names.sort();
        names.dedup();
        let mut changed = Vec::new();
        for name in names {
            if self.take_back(&name)? {
                changed.push(name);
            }
        }
        self.sync()?;
        // The record last: without it, what is ours would be another's.
        file::remove(&self.state(NEW))?;
        remove_dir(&self.state(KEPT))?;
        file::remove(&self.state(RECORD))?;
        remove_dir(&state)?;
        self.sync()?;
        Ok(changed)
    }

    /// Puts the file there, by rename. Its bytes are on the disk before it has the name.
    fn put(&self, name: &str, content: &Content, mode: u32) -> Result<Put> {
        let found = self.found(name)?;
        match found {
            Found::Ours { digest, mode: has } if digest == content.digest && has == mode => {
                return Ok(Put::Unchanged);
            }
            // Another installer may have been here since the files were kept.
            Found::Others { device, inode } => {
                let is_new = self.keep(name, (device, inode))?;
                if is_new {
                    sync(&self.state(KEPT))?;
                }
            }
            _ => {}
        }
        let path = self.dir.join(name);
        self.replace(&path, &path, &content.bytes, mode)?;
        Ok(if matches!(found, Found::Others { .. }) { Put::Kept } else { Put::Written })
    }

    /// Keeps another's file; returns false if it is kept already. `which` is its device and inode.
    fn keep(&self, name: &str, which: (u64, u64)) -> Result<bool> {
        let (path, kept, new) = (self.dir.join(name), self.state(KEPT).join(name), self.state(NEW));
        let failed = || format!("keep {}", path.display());
        if fs::symlink_metadata(&kept).is_ok_and(|meta| (meta.dev(), meta.ino()) == which) {
            return Ok(false);
        }
        file::remove(&new)?;
        match linkat(AT_FDCWD, &path, AT_FDCWD, &new, AtFlags::empty()) {
            Ok(()) => fs::rename(&new, &kept).with_context(failed)?,
            // Of another user's file, without CAP_FOWNER; on a filesystem without such links.
            Err(Errno::EPERM | Errno::EOPNOTSUPP | Errno::EMLINK) => {
                let meta = fs::symlink_metadata(&path).with_context(failed)?;
                ensure!(meta.is_file(), "keep {}: it is no file, and cannot be linked", path.display());
                let bytes = file::read(&path, KEPT_MAX)?.with_context(failed)?;
                self.replace(&kept, &path, &bytes, meta.mode() & MODE)?;
            }
            Err(errno) => return Err(io::Error::from(errno)).with_context(failed),
        }
        Ok(true)
    }

    /// Takes our file away and gives back what was there. What another has put there since stays.
    /// Returns whether the name has changed.
    fn take_back(&self, name: &str) -> Result<bool> {
        let (path, kept) = (self.dir.join(name), self.state(KEPT).join(name));
        match self.found(name)? {
            Found::Others { .. } => file::remove(&kept).map(|_| false).map_err(Into::into),
            found => match fs::rename(&kept, &path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => match found {
                    Found::Nothing => Ok(false),
                    _ => Ok(file::remove(&path)?),
                },
                Err(error) => Err(error).with_context(|| format!("give back {}", path.display())),
            },
        }
    }

    /// Gives the file `path` this content, whole: it is written under another name in [`STATE`]. It
    /// has the SELinux label of the file `like`, if that exists, and else of [`STATE`], by the
    /// kernel.
    fn replace(&self, path: &Path, like: &Path, bytes: &[u8], mode: u32) -> Result<()> {
        let new = self.state(NEW);
        // What a killed run has left may be a second name of another's file.
        file::remove(&new)?;
        let failed = || format!("write {}", new.display());
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&new).with_context(failed)?;
        file.write_all(bytes).with_context(failed)?;
        // The umask has no part in it.
        file.set_permissions(Permissions::from_mode(mode)).with_context(failed)?;
        keep_label(&file, &new, like);
        file.sync_all().with_context(failed)?;
        fs::rename(&new, path).with_context(|| format!("replace {}", path.display()))
    }

    fn write_record(&mut self, record: Record) -> Result<()> {
        if record != self.record {
            let path = self.state(RECORD);
            self.replace(&path, &path, record.text().as_bytes(), PRIVATE)?;
            sync(&self.dir.join(STATE))?;
            self.record = record;
        }
        Ok(())
    }

    /// What there is under a name; a link is not followed, and no device is opened.
    fn found(&self, name: &str) -> Result<Found> {
        let path = self.dir.join(name);
        let failed = || format!("read {}", path.display());
        let meta = match fs::symlink_metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(failed),
        };
        let others = Found::Others { device: meta.dev(), inode: meta.ino() };
        if !meta.is_file() || !self.record.names().any(|ours| ours == name) {
            return Ok(others);
        }
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).with_context(failed)?;
        let digest = Digest::read(&file).with_context(failed)?;
        let ours = Found::Ours { digest, mode: meta.mode() & MODE };
        Ok(if self.record.has(name, digest) { ours } else { others })
    }

    fn state(&self, name: &str) -> PathBuf {
        self.dir.join(STATE).join(name)
    }

    fn sync(&self) -> Result<()> {
        Ok(file::sync_dir(&self.handle, &self.dir)?)
    }
}

/// Gives a new file the SELinux label of another, as far as a policy permits: an administrator's
/// label of that very file would go with it. Most have the directory's, which the new one has too.
fn keep_label(new: &File, path: &Path, like: &Path) {
    let is_file = fs::symlink_metadata(like).is_ok_and(|meta| meta.is_file());
    let label = file::label(like).filter(|_| is_file);
    if let Some(label) = label.filter(|label| file::label(path).as_ref() != Some(label)) {
        file::set_label(new, &label).ok();
    }
}

/// The names of the kept files.
fn kept(dir: &Path) -> Result<Vec<String>> {
    let failed = || format!("list {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(failed),
    };
    let names = entries.map(|entry| {
        let name = entry.with_context(failed)?.file_name();
        name.into_string().map_err(|name| anyhow::anyhow!("{}: {:?} is none of ours", dir.display(), name))
    });
    names.collect()
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> Result<()> {
    Ok(file::sync_dir(&file::open_dir(dir)?, dir)?)
}
