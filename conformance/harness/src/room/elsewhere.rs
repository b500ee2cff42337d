//! Detects what a suite writes outside the room's own directories. An overlay on every directory of
//! the root receives the writes instead of the machine's disk; in the end the overlays hold what
//! was written elsewhere.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

use super::SCRATCH;

/// The kernel's file systems, and the directories that the room replaces as a whole.
const NOT_COVERED: [&str; 4] = ["proc", "sys", "dev", "run"];

/// The overlays on the machine's directories.
#[derive(Default)]
pub struct Elsewhere {
    covered: Vec<(PathBuf, PathBuf)>,
    before: Vec<String>,
}

impl Elsewhere {
    /// Covers the directories of the root without mounts in them. Directories with mounts stay as
    /// they are, and without overlay support for this user none is covered: there `/` is read-only
    /// and writes fail.
    pub fn cover() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the room's mounts")?;
        let places: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        let mut covered = vec![];
        for entry in fs::read_dir("/").context("list /")? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let dir = entry.path();
            let holds_mounts = places.iter().any(|place| Path::new(place).starts_with(&dir));
            if NOT_COVERED.contains(&name.as_str()) || !entry.file_type()?.is_dir() || holds_mounts {
                continue;
            }
            let layer = Path::new(SCRATCH).join(".elsewhere").join(&name);
            let (upper, work) = (layer.join("written"), layer.join("work"));
            fs::create_dir_all(&upper)?;
            fs::create_dir_all(&work)?;
            let like = fs::metadata(&dir)?;
            fs::set_permissions(&upper, like.permissions())?;
            // An unprivileged user is only root in here; other users' files keep showing the lower
            // owner.
            std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid())).ok();
            let options =
                format!("lowerdir={},upperdir={},workdir={}", dir.display(), upper.display(), work.display());
            let flags = MsFlags::empty();
            if mount(Some("overlay"), &dir, Some("overlay"), flags, Some(options.as_str())).is_ok() {
                covered.push((dir, upper));
            }
        }
        Ok(Self { covered, before: vec![] })
    }

    /// Whether a file can be created at this path without changing the machine.
    pub fn covers(&self, path: &Path) -> bool {
        self.covered.iter().any(|(dir, _)| path.starts_with(dir))
    }

    /// The room is furnished: what appears in the overlays from now on is the suite's.
    pub fn begun(mut self) -> Self {
        self.before = self.written();
        self
    }

    /// Requires that nothing was written.
    pub fn ensure_untouched(&self) -> Result<()> {
        let mut written = self.written();
        written.retain(|path| !self.before.contains(path));
        ensure!(
            written.is_empty(),
            "written outside of the room's own directories:{}",
            crate::diff::shown(&written)
        );
        Ok(())
    }

    fn written(&self) -> Vec<String> {
        let mut found = vec![];
        for (dir, upper) in &self.covered {
            walk(upper, dir, &mut found);
        }
        found.sort();
        found
    }
}

/// Everything in an overlay, with its path in the room.
fn walk(upper: &Path, shown: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(upper).into_iter().flatten().flatten() {
        let place = shown.join(entry.file_name());
        found.push(place.display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), &place, found);
        }
    }
}
