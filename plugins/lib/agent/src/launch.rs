//! Starts the agent.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use cni::{Code, Error};
use daemon::launch::{Daemon, StartError};

use crate::files::Files;
use crate::{PROGRAM, files};

/// The agent's command.
pub const SERVE: &str = "serve";
/// The directory of its network namespace, as an argument: [`Files::run`].
pub const RUN_FLAG: &str = "--run";
/// The directory of the state that stays, as an argument: [`Files::state`].
pub const STATE_FLAG: &str = "--state";
/// The file of the settings, as an argument.
pub const SETTINGS_FLAG: &str = "--settings";

/// Starts the agent, and waits until it is ready. Callers hold [`Files::start_lock`].
///
/// # Errors
/// It is not there, could not be started, or reported an error.
pub(crate) fn start(files: &Files, settings: &Path, cni_path: &str) -> Result<(), Error> {
    let program = program(cni_path)?;
    let mut arguments: Vec<OsString> = vec![SERVE.into()];
    for (flag, path) in [(RUN_FLAG, files.run()), (STATE_FLAG, files.state()), (SETTINGS_FLAG, settings)] {
        arguments.extend([flag.into(), path.into()]);
    }
    let daemon = Daemon {
        plugin: PROGRAM,
        program: Some(&program),
        description: "networks over many hosts",
        arguments: &arguments,
    };
    daemon::launch::start(&daemon).map_err(|error| match error {
        StartError::Kernel(error) => {
            let error = Error::from(error);
            Error::new(Code::TryAgainLater, error.msg).details(error.details)
        }
        failed => {
            let program = program.display();
            Error::new(
                Code::TryAgainLater,
                format!("the agent of networks over hosts ({program}) cannot run: {failed}"),
            )
        }
    })
}

/// The agent's file: in the directory of this executable, else in one of `CNI_PATH`.
///
/// # Errors
/// There is none.
pub(crate) fn program(cni_path: &str) -> Result<PathBuf, Error> {
    let own = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    // A relative directory would depend on the runtime's working directory.
    let dirs = env::split_paths(cni_path).filter(|dir| dir.is_absolute());
    let dirs: Vec<PathBuf> = own.into_iter().chain(dirs).collect();
    let found = dirs.iter().map(|dir| dir.join(PROGRAM)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let dirs = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", ");
        let why = format!("there is no {PROGRAM} in {dirs}: install it beside the plugins");
        Error::new(Code::TryAgainLater, why).details(files::shown_roots())
    })
}
