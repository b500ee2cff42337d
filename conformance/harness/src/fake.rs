//! Fake delegates: shell scripts that record their calls and print a given answer.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::room::Room;

/// A directory for `CNI_PATH` with a fake plugin in it.
pub struct Fake {
    /// The directory.
    pub dir: PathBuf,
    name: String,
}

/// A recorded call of a fake.
#[derive(Debug)]
pub struct Seen {
    /// `CNI_COMMAND`.
    pub command: String,
    /// The whole environment, `K=V` lines.
    pub env: Vec<String>,
    /// The standard input.
    pub stdin: Vec<u8>,
}

impl Fake {
    /// Creates a fake of that name. `answer` is shell text that runs after the call is recorded; it
    /// can use `$CNI_COMMAND` and the rest of the environment.
    pub fn new(room: &Room, name: &str, answer: &str) -> Result<Self> {
        let log = room.scratch("fake/log");
        let note = "mkdir -p {0}\nn=$(ls {0} | wc -l)\ncat > {0}/$n.stdin\nenv > {0}/$n.env";
        Self::wrapper(room, name, &format!("{}\n{answer}", note.replace("{0}", &log.display().to_string())))
    }

    /// Creates a plugin of that name from this shell text.
    pub fn wrapper(room: &Room, name: &str, text: &str) -> Result<Self> {
        let dir = room.scratch("fake");
        fs::create_dir_all(&dir)?;
        let script = format!("#!/bin/sh\n{text}\n");
        let path = dir.join(name);
        fs::write(&path, script).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(Self { dir, name: name.to_owned() })
    }

    /// The recorded calls, in order.
    pub fn seen(&self) -> Result<Vec<Seen>> {
        let log = self.dir.join("log");
        let mut calls = vec![];
        for n in 0.. {
            // `ls | wc -l` counts both files of every earlier call.
            let Ok(env) = fs::read_to_string(log.join(format!("{}.env", n * 2))) else { break };
            let env: Vec<String> = env.lines().map(str::to_owned).collect();
            let command =
                env.iter().find_map(|line| line.strip_prefix("CNI_COMMAND=")).unwrap_or_default().to_owned();
            calls.push(Seen { command, env, stdin: fs::read(log.join(format!("{}.stdin", n * 2)))? });
        }
        Ok(calls)
    }

    /// The recorded commands, in order.
    pub fn commands(&self) -> Result<Vec<String>> {
        Ok(self.seen()?.into_iter().map(|seen| seen.command).collect())
    }

    /// The plugin's name, for `ipam.type`.
    pub fn name(&self) -> &str {
        &self.name
    }
}
