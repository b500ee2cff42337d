//! A virtual machine for features that this kernel lacks: a distribution's kernel with its modules,
//! emulated (never KVM), on this machine's own files, which it sees through an overlay and cannot
//! change.

pub mod image;
mod initramfs;
pub mod lane;
mod machine;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::cache;
use machine::Bounds;
pub use machine::{Ended, Machine};

/// Options of the virtual machine.
#[derive(Args, Clone, Debug)]
pub struct VmArgs {
    /// The unpacked kernel packages [default: moor/vm in $XDG_CACHE_HOME or ~/.cache; `make
    /// tools-vm` fills it].
    #[arg(long, value_name = "DIR")]
    vm_images: Option<PathBuf>,
    /// Time limit of the virtual machine, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    vm_timeout: u64,
    /// Time limit between two lines of output (outcomes of cases, lines of a command), in seconds:
    /// longer than a room may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 420)]
    vm_silence: u64,
}

/// `conformance vm`.
#[derive(Args)]
pub struct CommandArgs {
    #[command(flatten)]
    vm: VmArgs,
    /// More parameters of the kernel.
    #[arg(long, value_name = "TEXT", default_value = "")]
    kernel_parameters: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl VmArgs {
    /// The machine, if available. The error names what is missing and how to get it.
    pub fn machine(&self) -> Result<Machine> {
        let images = match &self.vm_images {
            Some(dir) => dir.clone(),
            None => cache::directory("vm").context("name the images with --vm-images DIR")?,
        };
        let bounds = Bounds {
            silence: Duration::from_secs(self.vm_silence),
            total: Duration::from_secs(self.vm_timeout),
        };
        Machine::find(&images, bounds).context("no virtual machine (make tools-vm)")
    }
}

/// Runs a command in the machine, with its output and its exit status as ours.
pub fn command(args: &CommandArgs) -> Result<ExitCode> {
    let machine = args.vm.machine()?.with_parameters(&args.kernel_parameters);
    let ended = machine.run(&args.command, |line| {
        // A closed standard output is no reason to stop.
        writeln!(std::io::stdout(), "{line}").ok();
    })?;
    eprintln!("conformance: {}", ended.summary());
    Ok(ExitCode::from(ended.status))
}
