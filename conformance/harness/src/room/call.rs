//! One call of a plugin: environment, standard input, time limit, and answer.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Room, SCRATCH};
use crate::patience;

/// The time limit of one call on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A call in preparation.
pub struct Call<'r> {
    room: &'r Room,
    program: PathBuf,
    wrapper: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    input: Input,
    argv: Vec<OsString>,
}

enum Input {
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// The answer to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How the process ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    /// Wall-clock time.
    pub took: Duration,
}

/// The error object of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginError {
    /// `code`.
    pub code: u64,
    /// `msg`.
    pub msg: String,
    /// `details`, or empty.
    pub details: String,
}

/// A call and its answer, for reports.
pub struct Record {
    call: String,
    answer: String,
}

impl<'r> Call<'r> {
    /// A call of that executable with only `PATH` in its environment.
    pub fn new(room: &'r Room, program: PathBuf) -> Self {
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
        let env = BTreeMap::from([("PATH".into(), path)]);
        Self { room, program, wrapper: vec![], env, input: Input::Bytes(vec![]), argv: vec![] }
    }

    /// Sets a variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().into(), value.as_ref().into());
        self
    }

    /// Removes a variable.
    pub fn unset(mut self, key: &str) -> Self {
        self.env.remove(OsStr::new(key));
        self
    }

    /// The network configuration.
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Sets standard input to these bytes.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Takes standard input from a file.
    pub fn stdin_file(mut self, path: &Path) -> Self {
        self.input = Input::File(path.into());
        self
    }

    /// Passes arguments, which a plugin ignores.
    pub fn argv(mut self, args: &[&str]) -> Self {
        self.argv = args.iter().map(Into::into).collect();
        self
    }

    /// Runs the plugin under this program (strace and its options).
    pub fn under<S: AsRef<OsStr>>(mut self, wrapper: &[S]) -> Self {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().into()).collect();
        self
    }

    /// Puts directories before the suite's in `CNI_PATH`.
    pub fn path_first(self, dir: &Path) -> Self {
        let mut path = dir.as_os_str().to_owned();
        path.push(":");
        path.push(&self.room.suite);
        self.env("CNI_PATH", path)
    }

    /// Runs it, in the scratch directory. Fails if it cannot be started or does not end in time.
    pub fn run(self) -> Result<Answer> {
        let began = Instant::now();
        let mut words = self
            .wrapper
            .iter()
            .chain([self.program.as_os_str().to_owned()].iter())
            .cloned()
            .collect::<Vec<_>>();
        words.extend(self.argv.iter().cloned());
        let (program, args) = words.split_first().context("a call has a program")?;
        let mut command = Command::new(program);
        command.args(args).env_clear().envs(&self.env).current_dir(SCRATCH).process_group(0);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let bytes = match &self.input {
            Input::Bytes(bytes) => {
                command.stdin(Stdio::piped());
                bytes.clone()
            }
            Input::File(path) => {
                command.stdin(File::open(path).with_context(|| format!("open {}", path.display()))?);
                vec![]
            }
        };
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        let group = Pid::from_raw(child.id().try_into()?);
        // A plugin may answer before it has read everything, and close the pipe.
        let feed =
            child.stdin.take().map(|mut pipe| std::thread::spawn(move || drop(pipe.write_all(&bytes))));
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let (sender, receiver) = channel();
        let waiter = std::thread::spawn(move || drop(sender.send(child.wait())));
        let patience = patience::on_this_machine(PATIENCE);
        let Ok(status) = receiver.recv_timeout(patience) else {
            killpg(group, Signal::SIGKILL).ok();
            self.room.remember(Record { call: self.shown(), answer: "  did not end\n".into() });
            bail!("{} did not end within {} s", self.program.display(), patience.as_secs());
        };
        let took = began.elapsed();
        waiter.join().map_err(|_| anyhow!("the waiting thread panicked"))?;
        drop(feed);
        let received = |pipe: std::sync::mpsc::Receiver<Vec<u8>>| {
            pipe.recv_timeout(patience)
                .map_err(|_| anyhow!("{} left its output open", self.program.display()))
        };
        let stderr = String::from_utf8_lossy(&received(stderr)?).into_owned();
        let answer = Answer { status: status?, stdout: received(stdout)?, stderr, took };
        self.room.remember(Record { call: self.shown(), answer: answer.shown() });
        Ok(answer)
    }

    fn shown(&self) -> String {
        let variables = self.env.iter().filter(|(key, _)| *key != "PATH");
        let env: Vec<_> = variables
            .map(|(key, value)| format!("{}={}", key.display(), shorten(&value.to_string_lossy(), 120)))
            .collect();
        let input = match &self.input {
            Input::Bytes(bytes) => shorten(&String::from_utf8_lossy(bytes), 1200),
            Input::File(path) => format!("<{}", path.display()),
        };
        let wrapper: Vec<_> = self.wrapper.iter().map(|word| word.to_string_lossy()).collect();
        format!("{} {} {}\n    stdin: {input}\n", env.join(" "), wrapper.join(" "), self.program.display())
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::sync::mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = vec![];
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(sender.send(bytes));
    });
    receiver
}

fn shorten(text: &str, most: usize) -> String {
    let text = text.trim();
    if text.len() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most).collect();
    format!("{head}... ({} bytes)", text.len())
}

impl Answer {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.status.success()
    }

    /// Requires exit status 0; returns standard output as one JSON document.
    pub fn result(&self) -> Result<Value> {
        ensure!(self.succeeded(), "expected success, got {}", self.summary());
        self.document()
    }

    /// Requires exit status 0 and no output (DEL, CHECK, GC, STATUS; C-005).
    pub fn silent(&self) -> Result<()> {
        ensure!(self.succeeded(), "expected success, got {}", self.summary());
        ensure!(self.stdout.is_empty(), "expected no output, got {}", self.summary());
        Ok(())
    }

    /// Requires exit status 1 and exactly one JSON error object, which it returns.
    pub fn error(&self) -> Result<PluginError> {
        ensure!(self.status.code() == Some(1), "expected an error and exit 1, got {}", self.summary());
        let document = self.document()?;
        let code = document["code"].as_u64().with_context(|| format!("the error has no code: {document}"))?;
        let text = |key: &str| document[key].as_str().unwrap_or_default().to_owned();
        let error = PluginError { code, msg: text("msg"), details: text("details") };
        ensure!(!error.msg.is_empty(), "the error has no msg: {document}");
        Ok(error)
    }

    /// As [`Answer::error`], with this code.
    pub fn error_code(&self, code: u64) -> Result<PluginError> {
        let error = self.error()?;
        ensure!(error.code == code, "expected code {code}, got {error}");
        Ok(error)
    }

    /// As [`Answer::error_code`], with this text in the message.
    pub fn error_with(&self, code: u64, text: &str) -> Result<PluginError> {
        let error = self.error_code(code)?;
        ensure!(error.msg.contains(text), "expected {text:?} in the message, got {error}");
        Ok(error)
    }

    /// Requires a refused configuration: code 7, or 999 as the reference returns, and this text in
    /// the message.
    pub fn refused(&self, text: &str) -> Result<PluginError> {
        let error = self.error()?;
        ensure!([7, 999].contains(&error.code), "expected code 7 or 999, got {error}");
        ensure!(error.msg.contains(text), "expected {text:?} in the message, got {error}");
        Ok(error)
    }

    /// Standard output, which must be exactly one JSON document (C-006).
    pub fn document(&self) -> Result<Value> {
        serde_json::from_slice(&self.stdout)
            .with_context(|| format!("standard output is not one JSON document: {}", self.summary()))
    }

    /// Its exit status and output, on a few lines.
    pub fn summary(&self) -> String {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit".into(),
        };
        let out = shorten(&String::from_utf8_lossy(&self.stdout), 600);
        format!("{end}, stdout {out:?}, stderr {:?}", shorten(&self.stderr, 400))
    }

    fn shown(&self) -> String {
        let mut text = format!("    {} after {:.1} ms\n", self.status, self.took.as_secs_f64() * 1e3);
        for (label, output) in
            [("stdout", String::from_utf8_lossy(&self.stdout)), ("stderr", self.stderr.as_str().into())]
        {
            if !output.is_empty() {
                text += &format!("    {label}: {}\n", shorten(&output, 1500).replace('\n', "\n    "));
            }
        }
        text
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {} msg {:?} details {:?}", self.code, self.msg, self.details)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}{}", self.call, self.answer)
    }
}
