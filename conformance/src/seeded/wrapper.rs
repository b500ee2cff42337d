//! The harness under the name of a plugin: runs the unmodified plugin, and adds one defect.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use super::defect;

/// The file beside the link with the name of the defect and the directory of the unmodified
/// plugins. The environment cannot carry them: cases set their own for every call.
pub const MARK: &str = ".defect";

/// A call of the defective plugin.
pub struct Call {
    /// `CNI_COMMAND`.
    pub verb: String,
    /// The directory of the unmodified plugins.
    pub real: PathBuf,
    plugin: String,
    stdin: Vec<u8>,
}

/// The plugin's output and exit status.
pub struct Reply {
    /// Its exit status.
    pub code: u8,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// If this process was started under the name of a defective plugin, runs that plugin.
pub fn play() -> Option<ExitCode> {
    let own = PathBuf::from(std::env::args_os().next()?);
    let mark = fs::read_to_string(own.parent()?.join(MARK)).ok()?;
    let (name, real) = mark.split_once('\n')?;
    let defect = defect::all().find(|defect| defect.name == name)?;
    let mut stdin = vec![];
    // The plugin answers VERSION and prints its text without reading; it must not wait for its
    // caller here.
    let verb = std::env::var("CNI_COMMAND").unwrap_or_default();
    if !matches!(verb.as_str(), "" | "VERSION") {
        std::io::stdin().read_to_end(&mut stdin).ok();
    }
    let plugin = own.file_name()?.to_string_lossy().into_owned();
    let call = Call { verb, real: real.trim().into(), plugin, stdin };
    let reply = (defect.act)(&call);
    std::io::stdout().write_all(&reply.stdout).ok();
    std::io::stderr().write_all(&reply.stderr).ok();
    Some(ExitCode::from(reply.code))
}

impl Call {
    /// Runs the unmodified plugin.
    pub fn sound(&self) -> Reply {
        self.ask(&self.stdin, None)
    }

    /// The same with another variable.
    pub fn with_env(&self, key: &str, value: &str) -> Reply {
        self.ask(&self.stdin, Some((key, value)))
    }

    /// The same with another configuration.
    pub fn with(&self, edit: impl FnOnce(&mut Value)) -> Reply {
        match self.config() {
            Some(mut config) => {
                edit(&mut config);
                self.ask(config.to_string().as_bytes(), None)
            }
            None => self.sound(),
        }
    }

    /// The same without a key of the configuration.
    pub fn without(&self, key: &str) -> Reply {
        self.with(|config| drop(config.as_object_mut().and_then(|keys| keys.remove(key))))
    }

    /// Runs the unmodified plugin and changes its reply if `when`.
    pub fn after(&self, when: bool, change: impl FnOnce(&mut Reply)) -> Reply {
        let mut reply = self.sound();
        if when {
            change(&mut reply);
        }
        reply
    }

    /// Runs the unmodified plugin and changes its reply if it failed.
    pub fn after_failure(&self, change: impl FnOnce(&mut Reply)) -> Reply {
        let mut reply = self.sound();
        if reply.code != 0 {
            change(&mut reply);
        }
        reply
    }

    /// The configuration, when it is a JSON object.
    pub fn config(&self) -> Option<Value> {
        serde_json::from_slice(&self.stdin).ok().filter(Value::is_object)
    }

    /// The same with more words on the command line, if it has this one.
    pub fn with_words(&self, word: &str, more: &[&str]) -> Reply {
        let has = std::env::args().any(|given| given == word);
        self.ask_with(&self.stdin, None, if has { more } else { &[] })
    }

    fn ask(&self, stdin: &[u8], variable: Option<(&str, &str)>) -> Reply {
        self.ask_with(stdin, variable, &[])
    }

    fn ask_with(&self, stdin: &[u8], variable: Option<(&str, &str)>, more: &[&str]) -> Reply {
        let program = self.real.join(&self.plugin);
        let started = Command::new(&program)
            .args(std::env::args_os().skip(1))
            .args(more)
            .envs(variable.map(|(key, value)| (OsStr::new(key), OsStr::new(value))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let answered = started.and_then(|mut child| {
            if let Some(mut pipe) = child.stdin.take() {
                // A plugin that answers without reading closes its end.
                pipe.write_all(stdin).ok();
            }
            child.wait_with_output()
        });
        match answered {
            Ok(done) => {
                let code = done.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2);
                Reply { code, stdout: done.stdout, stderr: done.stderr }
            }
            Err(error) => Reply::error(999, &format!("run the unmodified {}: {error}", program.display())),
        }
    }
}

impl Reply {
    /// Success without output.
    pub fn nothing() -> Self {
        Self { code: 0, stdout: vec![], stderr: vec![] }
    }

    /// An error in the format of plugins.
    pub fn error(code: u64, msg: &str) -> Self {
        let document = json!({"code": code, "msg": msg}).to_string();
        Self { code: 1, stdout: document.into_bytes(), stderr: vec![] }
    }

    /// Changes the printed document, if there is one. Keeps the indentation, so that nothing else
    /// changes.
    pub fn edit(&mut self, edit: impl FnOnce(&mut Value)) {
        let Ok(mut document) = serde_json::from_slice::<Value>(&self.stdout) else { return };
        edit(&mut document);
        let mut text = vec![];
        let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, layout);
        if serde::Serialize::serialize(&document, &mut writer).is_ok() {
            self.stdout = text;
        }
    }
}

/// Creates a directory of plugins, one of them defective: links to the unmodified ones, and one to
/// the harness.
pub fn suite(dir: &Path, sound: &Path, exe: &Path, defect: &defect::Defect) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::write(dir.join(MARK), format!("{}\n{}", defect.name, sound.display()))?;
    for entry in fs::read_dir(sound)? {
        let entry = entry?;
        let target = if entry.file_name() == defect.plugin { exe.to_owned() } else { entry.path() };
        std::os::unix::fs::symlink(target, dir.join(entry.file_name()))?;
    }
    Ok(())
}
