//! A plugin as the whole of a process.

use std::io::{Read, Write};

use super::Streams;
use crate::Plugin;
use crate::env::Env;
use crate::stdio::{Stdin, Stdout};

/// The whole of a plugin executable: reads the process's environment, arguments and standard input, runs the verb, prints.
pub fn main<P: Plugin>(plugin: P) -> std::process::ExitCode {
    let mut streams = Streams { stdin: &mut Stdin, stdout: &mut Stdout, stderr: &mut std::io::stderr() };
    super::main(&plugin, &Env::of_process(), &mut std::env::args_os().skip(1), &mut streams).into()
}

/// One run of a plugin: the exit status. What [`main()`] does, but for the arguments, with everything it takes from
/// the process given.
pub fn run<P: Plugin>(
    plugin: &P,
    env: &Env,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    super::main(plugin, env, &mut std::iter::empty(), &mut Streams { stdin, stdout, stderr })
}
