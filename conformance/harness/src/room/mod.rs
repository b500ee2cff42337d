//! The clean room: a "host" of namespaces in which one job runs, with its own `/run`
//! and directories of state and configuration.

pub mod call;
pub mod company;
pub mod confine;
pub mod elsewhere;
pub mod enter;
pub mod netns;
pub mod unruly;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runtime::Conflist;

use crate::diff::shown;
use crate::frame::Wire;
use crate::namespace::Container;
use crate::patience::on_this_machine;
use crate::{diff, leftover, snapshot};
use call::{Call, Record};

/// The directory of a case's own files; not part of snapshots.
pub const SCRATCH: &str = "/run/room";

/// The time limit for the kernel to dismantle a namespace after its last user.
const SETTLING: Duration = Duration::from_secs(2);

/// A room, from inside.
pub struct Room {
    /// The plugins under test.
    pub suite: PathBuf,
    /// The reference's plugins.
    pub reference: PathBuf,
    /// The conflists.
    pub net_d: PathBuf,
    records: Mutex<Vec<Record>>,
}

/// The link by which a world's host has learned its route. It is named like the administrator's
/// links.
pub const UPLINK: &str = "adminup";

impl Room {
    /// The room that this process is in.
    pub fn new(suite: &Path, reference: &Path, net_d: &Path) -> Self {
        Self {
            suite: suite.to_owned(),
            reference: reference.to_owned(),
            net_d: net_d.to_owned(),
            records: Mutex::new(vec![]),
        }
    }

    /// A call of a plugin of the suite, with only `CNI_COMMAND` and `CNI_PATH` set.
    pub fn call(&self, plugin: &str, verb: &str) -> Call<'_> {
        Call::new(self, self.suite.join(plugin)).env("CNI_COMMAND", verb).env("CNI_PATH", &self.suite)
    }

    /// A call of the tool, with the suite's plugins.
    pub fn tool(&self, args: &[&str]) -> Call<'_> {
        Call::new(self, self.suite.join("moor")).argv(args).env("CNI_PATH", &self.suite)
    }

    /// A call for a container's `eth0`.
    pub fn attach(&self, plugin: &str, verb: &str, container: &Container) -> Call<'_> {
        self.call(plugin, verb)
            .env("CNI_CONTAINERID", &container.id)
            .env("CNI_NETNS", &container.path)
            .env("CNI_IFNAME", "eth0")
    }

    /// The CNI versions that a plugin of the suite reports.
    pub fn versions_of(&self, plugin: &str) -> Result<Vec<String>> {
        let answer = self.call(plugin, "VERSION").run()?.result()?;
        let list = answer["supportedVersions"].as_array().context("VERSION names no versions")?;
        Ok(list.iter().filter_map(|version| Some(version.as_str()?.to_owned())).collect())
    }

    /// The newest version, up to the list's own, that all its plugins support.
    pub fn newest_common(&self, list: &Conflist) -> Result<String> {
        let mut common: Option<Vec<String>> = None;
        for plugin in &list.plugins {
            let spoken = self.versions_of(&plugin.plugin_type)?;
            let common = common.get_or_insert_with(|| spoken.clone());
            common.retain(|version| spoken.contains(version) && *version <= list.version);
        }
        common.and_then(|mut common| common.pop()).context("the list's plugins have no version in common")
    }

    /// Opens the link of that name in a namespace, or in the room's host, for sending and receiving
    /// frames.
    pub fn wire(&self, ns: Option<&str>, link: &str) -> Result<Wire> {
        Wire::open(ns, link)
    }

    /// A path in the scratch directory.
    pub fn scratch(&self, name: &str) -> PathBuf {
        Path::new(SCRATCH).join(name)
    }

    /// Everything that a plugin can leave in the "host": links, addresses, routes, neighbours,
    /// rules, sysctls, files. It excludes the scratch directory and the namespaces themselves,
    /// which are the harness's, and the sysctls of the link by which a world's host has learned its
    /// route, which the world checks.
    pub fn snapshot(&self) -> Result<Vec<String>> {
        let mut lines = snapshot::network(None)?;
        lines.extend(snapshot::rules()?);
        let uplink = format!("/conf/{UPLINK}/");
        lines.extend(snapshot::sysctls().into_iter().filter(|line| !line.contains(&uplink)));
        lines.extend(self.files());
        Ok(lines)
    }

    /// The same for a container's namespace, without files.
    pub fn snapshot_in(&self, container: &Container) -> Result<Vec<String>> {
        let mut lines = snapshot::network(Some(&container.id))?;
        lines.extend(self.inside(&container.id, || Ok([snapshot::rules()?, snapshot::sysctls()].concat()))?);
        Ok(lines)
    }

    /// Only the files of [`Room::snapshot`].
    pub fn files(&self) -> Vec<String> {
        let mut lines = snapshot::files(
            &["/run"].into_iter().chain(enter::STATE_DIRS).map(Path::new).collect::<Vec<_>>(),
        );
        lines.retain(|line| {
            !line.contains(SCRATCH) && !line.contains("/run/netns") && !line.contains(" /run ")
        });
        lines
    }

    /// The changes since then.
    pub fn changes_since(&self, before: &[String]) -> Result<Vec<String>> {
        Ok(diff::lines(before, &self.snapshot()?))
    }

    /// Requires that nothing changed since then.
    pub fn ensure_unchanged(&self, before: &[String], what: &str) -> Result<()> {
        let changes = self.changes_since(before)?;
        ensure!(changes.is_empty(), "{what}; changed: {}", shown(&changes));
        Ok(())
    }

    /// Requires that no attachment of bridge `br0` left anything since then; its network's state
    /// may stay.
    pub fn ensure_nothing_left(&self, before: &[String], ids: &[&str]) -> Result<()> {
        let left = self.left_since(before, &["br0"], ids)?;
        ensure!(left.is_empty(), "left behind: {}", shown(&left));
        Ok(())
    }

    /// What attachments have left since then. The kernel removes a dead namespace's links in its
    /// own time, so the check is repeated until nothing is left or a timeout passes.
    pub fn left_since(&self, before: &[String], bridges: &[&str], ids: &[&str]) -> Result<Vec<String>> {
        let deadline = Instant::now() + on_this_machine(SETTLING);
        loop {
            let left = leftover::of_attachments(&self.changes_since(before)?, bridges, ids);
            if left.is_empty() || Instant::now() > deadline {
                return Ok(left);
            }
        }
    }

    /// Writes a file in the scratch directory.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.scratch(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(SCRATCH)))?;
        administrator_writes(&path, content)?;
        Ok(path)
    }

    pub(crate) fn remember(&self, record: Record) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// The last calls, for a failure's report.
    pub fn last_calls(&self, count: usize) -> String {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = records.len().saturating_sub(count);
        let mut text = String::new();
        if skipped > 0 {
            text += &format!("  ({skipped} earlier calls)\n");
        }
        records.iter().skip(skipped).for_each(|record| text += &record.to_string());
        text
    }
}

/// Writes a file as an administrator does: only its owner may change it, also in a world whose umask
/// is 0.
pub fn administrator_writes(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let write = || {
        fs::write(path, content)?;
        let mode = fs::metadata(path)?.permissions().mode();
        fs::set_permissions(path, Permissions::from_mode(mode & 0o7755))
    };
    write().with_context(|| format!("write {}", path.display()))
}
