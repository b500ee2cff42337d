//! The commands of people are the agent's.

use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use cni::Error;

/// Replaces this process by the agent beside this executable, with the same arguments.
pub(crate) fn agent(name: &str, arguments: &[OsString]) -> Result<Infallible, Error> {
    let own = env::current_exe().map_err(|error| sys::Error::new("find", "this executable", error))?;
    let program = own.with_file_name(agent::PROGRAM);
    let text = |bytes: Vec<u8>| {
        CString::new(bytes)
            .map_err(|error| sys::Error::new("run", agent::PROGRAM, std::io::Error::from(error)))
    };
    let mut all = vec![text(agent::PROGRAM.into())?, text(name.into())?];
    for argument in arguments {
        all.push(text(argument.clone().into_vec())?);
    }
    let path = text(program.as_os_str().as_bytes().to_vec())?;
    nix::unistd::execv(&path, &all).map_err(|errno| {
        Error::from(sys::Error::new("run", program.display().to_string(), errno))
            .details("install overlay-agent beside the plugins")
    })
}
