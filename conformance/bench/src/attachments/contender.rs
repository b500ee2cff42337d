//! What is measured: a suite of plugins, or the kernel alone.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::config::with;
use harness::namespace::Container;
use harness::room::Room;
use serde_json::Value;

use super::scenario::{Scenario, VERBS, network};
use super::shot::{Sample, Shot};

/// The names in tables and reports.
pub const OURS: &str = "ours";
/// The same plugins as one executable, which runs delegates in its own process.
pub const MULTICALL: &str = "moor-plugins";
/// The tool for people.
pub const TOOL: &str = "moor";
/// The suite to compare with.
pub const REFERENCE: &str = "reference";
/// Another build of the same plugins, of an earlier time.
pub const BEFORE: &str = "earlier build";
/// The kernel's own work.
pub const FLOOR: &str = "floor";
/// A process that does next to nothing.
pub const START: &str = "process start";

/// A suite in a room, with a network of its own.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Its name.
    pub name: &'static str,
    /// The directory of its executables.
    pub dir: PathBuf,
    /// The index of its network among the contenders.
    pub slot: u8,
}

/// An attachment by a contender.
pub struct Attachment<'a> {
    /// The contender.
    pub contender: &'a Contender,
    /// The configurations of its plugins, in the order of ADD.
    pub chain: Vec<Value>,
    /// The container's name.
    pub container: &'a Container,
    /// The interface in it.
    pub ifname: String,
    /// The container's name for people, as Kubernetes runtimes pass it.
    pub name: Option<&'a str>,
    /// The result of ADD.
    pub result: Option<Value>,
}

impl Contender {
    /// The suites that a room measures: ours, `moor-plugins` if it is beside ours, and the
    /// reference.
    pub fn all(room: &Room) -> Result<Vec<Self>> {
        let mut all = vec![Self::ours(room)];
        all.extend(Self::multicall(room)?);
        all.push(Self::reference(room));
        Ok(all)
    }

    /// `moor-plugins` under every name, as `make install` copies it, if it is beside ours and not
    /// the same file.
    pub fn multicall(room: &Room) -> Result<Option<Self>> {
        let moor_plugins = room.suite.join(MULTICALL);
        if !moor_plugins.is_file() || identity(&moor_plugins)? == identity(&room.suite.join("loopback"))? {
            return Ok(None);
        }
        let dir = room.scratch(MULTICALL);
        std::fs::create_dir_all(&dir)?;
        for entry in std::fs::read_dir(&room.suite)? {
            let copy = dir.join(entry?.file_name());
            std::fs::copy(&moor_plugins, &copy).with_context(|| format!("write {}", copy.display()))?;
        }
        Ok(Some(Self { name: MULTICALL, dir, slot: 1 }))
    }

    /// Our executables.
    pub fn ours(room: &Room) -> Self {
        Self { name: OURS, dir: room.suite.clone(), slot: 0 }
    }

    /// The reference's.
    pub fn reference(room: &Room) -> Self {
        Self { name: REFERENCE, dir: room.reference.clone(), slot: 2 }
    }

    /// Those of an earlier build.
    pub fn before(dir: &Path) -> Self {
        Self { name: BEFORE, dir: dir.to_owned(), slot: 4 }
    }

    /// The same with copies of its executables, in the room. Two builds are compared by copies: how
    /// a file was written affects the cost of its pages.
    pub fn copied(&self, room: &Room, executables: &[&str]) -> Result<Self> {
        let dir = room.scratch(&format!("copies{}", self.slot));
        std::fs::create_dir_all(&dir)?;
        for name in executables.iter().filter(|name| self.dir.join(name).is_file()) {
            let copy = dir.join(name);
            std::fs::copy(self.dir.join(name), &copy).with_context(|| format!("write {}", copy.display()))?;
        }
        Ok(Self { dir, ..self.clone() })
    }

    /// Bytes of the executables involved, each file once.
    pub fn bytes(&self, scenario: Scenario) -> Result<u64> {
        let mut files = vec![];
        for name in scenario.executables() {
            let file = identity(&self.dir.join(name))?;
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Ok(files.iter().map(|(.., size)| size).sum())
    }

    /// An attachment that does not exist yet.
    pub fn attachment<'a>(
        &'a self,
        scenario: Scenario,
        container: &'a Container,
        ifname: &str,
    ) -> Attachment<'a> {
        let chain = scenario.chain(self.slot);
        Attachment { contender: self, chain, container, ifname: ifname.to_owned(), name: None, result: None }
    }

    /// A process that only answers VERSION.
    pub fn start(&self, executable: &str) -> Shot {
        let env = vec![("CNI_COMMAND".into(), "VERSION".into())];
        let input = r#"{"cniVersion": "1.0.0"}"#.to_owned();
        Shot { program: self.dir.join(executable), env, input, tag: "start".into() }
    }
}

/// Device, inode and size of the file behind a path.
pub fn identity(path: &Path) -> Result<(u64, u64, u64)> {
    let found = path.metadata().with_context(|| format!("stat {}", path.display()))?;
    Ok((found.dev(), found.ino(), found.len()))
}

impl Attachment<'_> {
    /// The configurations of a verb, in the order in which its plugins are called.
    fn configs(&self, verb: &str) -> Vec<Value> {
        let mut chain = self.chain.clone();
        if verb == "DEL" {
            chain.reverse();
        }
        chain
    }

    /// One plugin's call.
    fn shot(&self, config: &Value, previous: Option<&Value>, verb: &str) -> Result<Shot> {
        let plugin = config["type"].as_str().context("a configuration has a type")?;
        let config = match previous {
            Some(result) => with(config, serde_json::json!({"prevResult": result})),
            None => config.clone(),
        };
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let mut env: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path),
            ("CNI_COMMAND".into(), verb.into()),
            ("CNI_PATH".into(), self.contender.dir.clone().into()),
            ("CNI_CONTAINERID".into(), self.container.id.clone().into()),
            ("CNI_NETNS".into(), self.container.path.clone().into()),
            ("CNI_IFNAME".into(), self.ifname.clone().into()),
        ];
        if let Some(name) = self.name {
            env.push(("CNI_ARGS".into(), format!("IgnoreUnknown=1;K8S_POD_NAME={name}").into()));
        }
        let tag = format!("{}.{}.{}", network(self.contender.slot), self.container.id, self.ifname);
        Ok(Shot { program: self.contender.dir.join(plugin), env, input: config.to_string(), tag })
    }

    /// Runs a verb over the chain; `each` runs one call. Results are passed on as a runtime does
    /// (C-041).
    pub fn each(&mut self, verb: &str, mut each: impl FnMut(&Shot) -> Result<Option<Value>>) -> Result<()> {
        let mut passed = if verb == "ADD" { None } else { self.result.clone() };
        for config in self.configs(verb) {
            let printed = each(&self.shot(&config, passed.as_ref(), verb)?)
                .with_context(|| format!("{} {verb}", self.contender.name))?;
            if verb == "ADD" {
                passed = printed;
            }
        }
        self.result = if verb == "DEL" { None } else { passed };
        Ok(())
    }

    /// Runs a verb, timed.
    pub fn run(&mut self, verb: &str) -> Result<Sample> {
        let mut whole = Sample::default();
        self.each(verb, |shot| {
            let (sample, printed) = shot.fire()?;
            whole += sample;
            Ok(printed)
        })?;
        Ok(whole)
    }

    /// The single call of a verb in a chain of one, for the caller to start.
    pub fn only_shot(&self, verb: &str) -> Result<Shot> {
        let configs = self.configs(verb);
        self.shot(configs.first().context("an empty chain")?, self.result.as_ref(), verb)
    }

    /// Runs every verb once, untimed: returns those that do not work, and why. ADD and DEL must.
    pub fn rehearse(&mut self) -> Result<Option<String>> {
        let [add, check, del] = VERBS;
        if let Err(error) = self.run(add) {
            // Leftovers of a failed ADD would affect the other contenders.
            self.run(del).ok();
            return Err(error);
        }
        let trouble = self.run(check).err().map(|error| format!("{error:#}"));
        self.run(del)?;
        Ok(trouble)
    }
}
