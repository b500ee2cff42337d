//! The emulator's process: starting, reading its output, ending it.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::image::Image;
use super::initramfs::Archive;
use crate::wall_clock;

/// The time limit until the command starts. Ten seconds are usual; a busy machine may need several
/// times that.
const BOOT: Duration = Duration::from_secs(120);

/// The kernel's parameters.
const PARAMETERS: &str =
    "console=ttyS0 quiet panic=-1 mitigations=off nokaslr random.trust_cpu=on tsc=reliable";

/// The number of console lines that a failure prints.
const CONSOLE_LINES: usize = 20;

const INIT: &[u8] = include_bytes!("init");

/// The parts of a machine.
pub struct Machine {
    emulator: PathBuf,
    /// Kills the emulator when the harness is killed.
    leash: PathBuf,
    busybox: PathBuf,
    image: Image,
    bounds: Bounds,
    /// Whether its clock counts instructions.
    counts: bool,
    /// More parameters of the kernel.
    parameters: String,
}

/// The time limits of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Between two lines of the command's output: a hung command is ended, however long the whole
    /// work is.
    pub silence: Duration,
    /// In total.
    pub total: Duration,
}

/// The end of a command in the machine.
pub struct Ended {
    /// Its exit status.
    pub status: u8,
    /// The kernel's version.
    pub kernel: String,
    /// From the emulator's start to the command's.
    pub boot: Duration,
    /// In total.
    pub took: Duration,
}

impl Ended {
    /// One line for people.
    pub fn summary(&self) -> String {
        format!(
            "virtual machine: kernel {}, up after {:.1} s, {:.1} s in all",
            self.kernel,
            self.boot.as_secs_f64(),
            self.took.as_secs_f64()
        )
    }
}

impl Machine {
    /// Finds the parts of a machine with these time limits.
    pub fn find(images: &Path, bounds: Bounds) -> Result<Self> {
        ensure!(std::env::consts::ARCH == "x86_64", "its kernels are x86_64, this machine is not");
        let busybox = program("busybox", "busybox-static")?;
        let mut head = vec![];
        File::open(&busybox)?.take(4096).read_to_end(&mut head).context("read busybox")?;
        // A dynamic executable names its interpreter right after its headers.
        let interpreted = head.windows(10).any(|bytes| bytes == b"/ld-linux-");
        ensure!(!interpreted, "{} is not static (Debian: busybox-static)", busybox.display());
        program("modprobe", "kmod")?;
        Ok(Self {
            emulator: program("qemu-system-x86_64", "qemu-system-x86")?,
            leash: program("setpriv", "util-linux")?,
            busybox,
            image: Image::newest(images)?,
            bounds,
            counts: false,
            parameters: String::new(),
        })
    }

    /// The same with these parameters of the kernel after its others.
    pub fn with_parameters(self, parameters: &str) -> Self {
        Self { parameters: parameters.to_owned(), ..self }
    }

    /// The same with one processor, and a clock that advances by one nanosecond with each
    /// instruction and skips idle time: a duration in it is a count, whatever this machine's load.
    pub fn counting_instructions(self) -> Self {
        Self { counts: true, ..self }
    }

    /// Boots, runs the command in the working directory as root, and passes on its output line by
    /// line.
    ///
    /// Fails if the machine cannot be started, does not boot, dies, or exceeds its limits; the
    /// error has the console's last lines. No process is left in any case.
    pub fn run(&self, command: &[OsString], mut line: impl FnMut(&str)) -> Result<Ended> {
        let began = Instant::now();
        let desk = Desk::new()?;
        fs::write(desk.file("initramfs"), self.initramfs(command)?).context("write the initramfs")?;
        let mut emulator = Emulator(self.command(&desk)?.spawn().context("start qemu-system-x86_64")?);
        let output = emulator.0.stdout.take().context("the emulator has an output")?;
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        let end = began + self.bounds.total;
        let (mut boot, mut heard) = (None, began);
        loop {
            let patience = if boot.is_some() { self.bounds.silence } else { BOOT };
            let deadline = end.min(heard + patience);
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(text) if boot.is_some() => {
                    line(&text);
                    heard = Instant::now();
                }
                Ok(text) if text == "begun" => {
                    heard = Instant::now();
                    boot = Some(began.elapsed());
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let what = match boot {
                        _ if deadline == end => {
                            format!("was not done within {} s", self.bounds.total.as_secs())
                        }
                        None => format!("did not boot within {} s", BOOT.as_secs()),
                        Some(_) => format!("printed nothing for {} s", self.bounds.silence.as_secs()),
                    };
                    drop(emulator);
                    bail!("the virtual machine {what}, so it was ended{}", desk.last_output());
                }
            }
        }
        let how = emulator.end();
        let status = fs::read_to_string(desk.file("status")).unwrap_or_default();
        let (Some(boot), Ok(status)) = (boot, status.trim().parse()) else {
            let how = how.map_or_else(String::new, |how| format!(" ({how})"));
            bail!("the virtual machine ended before the command did{how}{}", desk.last_output());
        };
        Ok(Ended { status, kernel: self.image.version.clone(), boot, took: began.elapsed() })
    }

    fn initramfs(&self, command: &[OsString]) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        for name in ["bin", "dev", "proc", "sys", "modules"] {
            archive.directory(name);
        }
        archive.device("dev/console", 5, 1);
        archive.file("init", INIT);
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        archive.file("bin/busybox", &read(&self.busybox)?);
        for (index, path) in self.image.first_modules()?.iter().enumerate() {
            let leaf = path.file_name().unwrap_or_default().to_string_lossy();
            archive.file(&format!("modules/{index:02}-{leaf}"), &read(path)?);
        }
        let mut settings = vec![];
        for (key, value) in [
            ("version", self.image.version.as_ref()),
            ("modules", self.image.modules.as_os_str()),
            ("bound", self.bounds.total.as_secs().to_string().as_ref()),
        ] {
            settings.extend([key.as_bytes(), b"=", &quoted(value.as_bytes()), b"\n"].concat());
        }
        archive.file("settings", &settings);
        let here = std::env::current_dir().context("find the working directory")?;
        let mut script =
            [b"cd ".to_vec(), quoted(here.as_os_str().as_bytes()), b" && exec".to_vec()].concat();
        for word in command {
            script.push(b' ');
            script.extend(quoted(word.as_bytes()));
        }
        archive.file("command", &script);
        Ok(archive.finish())
    }

    fn command(&self, desk: &Desk) -> Result<Command> {
        let processors = match self.counts {
            true => 1,
            false => std::thread::available_parallelism().map_or(2, usize::from).min(4),
        };
        let processors = processors.to_string();
        let mut command = Command::new(&self.leash);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.emulator);
        // Never KVM, even if available: results are the same everywhere, and nested virtualisation
        // is not relied on.
        command.args(["-accel", "tcg", "-machine", "pc", "-cpu", "max", "-smp", &processors, "-m", "1024"]);
        if self.counts {
            command.args(["-icount", "shift=0,sleep=off"]);
        }
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(&self.image.kernel).args(["-initrd", "initramfs", "-append"]);
        command.arg(format!("{PARAMETERS} {} {}", wall_clock::MARK, self.parameters));
        command.args(["-serial", "file:console"]);
        for (share, path) in [("root", "/"), ("proc", "/proc")] {
            let of = format!("local,id={share},path={path},security_model=none,readonly=on,multidevs=remap");
            command.args([
                "-fsdev",
                &of,
                "-device",
                &format!("virtio-9p-pci,fsdev={share},mount_tag={share}"),
            ]);
        }
        command.args(["-device", "virtio-serial-pci"]);
        for (name, end) in
            [("output", "stdio,id=output,signal=off"), ("status", "file,id=status,path=status")]
        {
            command.args(["-chardev", end, "-device", &format!("virtserialport,chardev={name},name={name}")]);
        }
        // Its standard input stays open while `Emulator` lives: at its end the output's port would
        // close too.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(desk.file("qemu"))?);
        command.current_dir(&desk.0).process_group(0);
        Ok(command)
    }
}

/// The emulator's process, killed when dropped.
struct Emulator(Child);

impl Emulator {
    /// Kills it if necessary. Once its output is closed it is about to exit, and the status is its
    /// own.
    fn end(&mut self) -> Option<ExitStatus> {
        // It stays our child until it is waited for, so its pid cannot be reused.
        self.0.kill().ok();
        self.0.wait().ok()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.end();
    }
}

/// A directory for files to and from the machine, removed when dropped.
struct Desk(PathBuf);

impl Desk {
    fn new() -> Result<Self> {
        let template = std::env::temp_dir().join("moor-vm-XXXXXX");
        Ok(Self(nix::unistd::mkdtemp(&template).with_context(|| format!("make {}", template.display()))?))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The last output of the emulator and the console.
    fn last_output(&self) -> String {
        let mut text = String::new();
        for (source, name) in [("qemu", "qemu"), ("the console", "console")] {
            let bytes = fs::read(self.file(name)).unwrap_or_default();
            let output = String::from_utf8_lossy(&bytes);
            let lines: Vec<_> = output.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.get(lines.len().saturating_sub(CONSOLE_LINES)..).unwrap_or_default();
            if !last.is_empty() {
                write!(text, "\n  last output of {source}:").ok();
                for line in last {
                    write!(text, "\n    {}", line.trim_end()).ok();
                }
            }
        }
        text
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// Finds a program on the PATH, or in directories that an unprivileged user's PATH may lack.
fn program(name: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs =
        std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let found = dirs.map(|dir| dir.join(name)).find(|file| file.is_file());
    found.ok_or_else(|| anyhow!("no {name} (Debian: {package})"))
}

/// Quotes a word for a shell.
fn quoted(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' => quoted.extend_from_slice(b"'\\''"),
            byte => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ample for anything that does not hang.
    const AMPLE: Duration = Duration::from_secs(30);

    /// An image's directory, and a machine of it with that emulator and these limits.
    fn machine(emulator: &str, silence: Duration, total: Duration) -> (Desk, Machine) {
        let desk = Desk::new().unwrap();
        fs::write(desk.file("modules.dep"), "").unwrap();
        let image = Image { kernel: desk.file("vmlinuz"), version: "6.0".into(), modules: desk.0.clone() };
        let emulator = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/emulators").join(emulator);
        let leash = program("setpriv", "util-linux").unwrap();
        let bounds = Bounds { silence, total };
        let busybox = "/bin/true".into();
        (desk, Machine { emulator, leash, busybox, image, bounds, counts: false, parameters: String::new() })
    }

    #[test]
    fn output_and_exit_status_come_back() {
        let (_desk, machine) = machine("works", AMPLE, AMPLE);
        let mut lines = vec![];
        let ended = machine.run(&["true".into()], |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(ended.status, 7);
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_machine_that_dies_is_reported_with_its_last_output() {
        let (_desk, machine) = machine("dies", AMPLE, AMPLE);
        let mut lines = vec![];
        let error =
            machine.run(&["true".into()], |line| lines.push(line.to_owned())).err().unwrap().to_string();
        assert_eq!(lines, ["one"]);
        assert!(error.starts_with("the virtual machine ended before the command did (signal: 9"), "{error}");
        assert!(error.ends_with("[   1.0] BUG: something went wrong"), "{error}");
    }

    #[test]
    fn a_machine_that_hangs_is_ended_and_leaves_no_process() {
        let second = Duration::from_secs(1);
        for (silence, total, text) in
            [(AMPLE, second, "was not done within 1 s"), (second, AMPLE, "printed nothing for 1 s")]
        {
            let (desk, machine) = machine("hangs", silence, total);
            let error = machine.run(&["true".into()], |_| {}).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
            let pid = fs::read_to_string(desk.file("pid")).unwrap();
            assert!(!Path::new("/proc").join(pid.trim()).exists(), "{pid} lives");
        }
    }

    #[test]
    fn a_word_is_one_word_for_the_shell() {
        let word = "it's $HOME; \"so\"\n*";
        let script = [b"printf %s ".to_vec(), quoted(word.as_bytes())].concat();
        let output = Command::new("sh").arg("-c").arg(String::from_utf8(script).unwrap()).output().unwrap();
        assert_eq!(output.stdout, word.as_bytes());
    }
}
