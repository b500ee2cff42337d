//! The hosts of the cluster, on record: whom the guard of overlay networks lets in. The agent
//! writes them; whoever makes the guard again reads them.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;

use sys::file::{self, Sync};
use sys::{Error, Result};

use super::text::{NUMBER, VERSION};
use super::{MODE, Records};
use crate::notice;

/// The file in the directory of records. It is no record of an attachment.
const FILE: &str = ".overlay-members";
/// The most hosts on record, and the longest file in bytes.
const MEMBERS_MAX: usize = 4096;
const LONGEST: usize = MEMBERS_MAX * 64;

/// The hosts of the cluster, by the sources of their packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Their addresses.
    pub members: Vec<IpAddr>,
}

impl Records {
    /// Writes the hosts of the cluster.
    ///
    /// # Errors
    /// The file cannot be written, or these are too many.
    pub fn write_guard(&self, guard: &Guard) -> Result<()> {
        let path = self.dir.join(FILE);
        if guard.members.len() > MEMBERS_MAX {
            let cause = io::Error::new(io::ErrorKind::InvalidInput, format!("more than {MEMBERS_MAX} hosts"));
            return Err(Error::new("write", path.display().to_string(), cause));
        }
        let mut text = format!("{VERSION}\n");
        for member in &guard.members {
            // Writing to a string does not fail.
            let _ = writeln!(text, "member {member}");
        }
        file::write_whole(&path, text.as_bytes(), MODE, Sync::Later)
    }

    /// The hosts of the cluster; none without a readable file, and then nobody is let in.
    pub fn guard(&self) -> Guard {
        let path = self.dir.join(FILE);
        let Ok(Some(bytes)) = file::read(&path, LONGEST) else { return Guard::default() };
        if let Err(newer) = file::ensure_known(&bytes, NUMBER) {
            notice(format_args!("the record {} is not understood: {newer}", path.display()));
            return Guard::default();
        }
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines();
        if lines.next() != Some(VERSION) {
            return Guard::default();
        }
        let members = lines.filter_map(|line| line.strip_prefix("member ")?.parse().ok());
        Guard { members: members.collect() }
    }

    /// Forgets the hosts of the cluster.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_guard(&self) -> Result<()> {
        file::remove_whole(&self.dir.join(FILE)).map(drop)
    }
}
