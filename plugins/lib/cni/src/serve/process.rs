//! Runs a plugin in a process of its own, or on given streams.

use std::io::{Read, Write};

use super::Streams;
use crate::Plugin;
use crate::env::Env;
use crate::stdio::{Stdin, Stdout};

/// The main function of a plugin: reads environment, arguments and standard input, runs the verb
/// and prints the answer.
pub fn main<P: Plugin>(plugin: P) -> std::process::ExitCode {
    let mut streams = Streams { stdin: &mut Stdin, stdout: &mut Stdout, stderr: &mut std::io::stderr() };
    super::main(&plugin, &Env::of_process(), &mut std::env::args_os().skip(1), &mut streams).into()
}

/// Runs a plugin as [`main()`] does, without arguments, on this environment and these streams;
/// returns the exit status.
pub fn run<P: Plugin>(
    plugin: &P,
    env: &Env,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    super::main(plugin, env, &mut std::iter::empty(), &mut Streams { stdin, stdout, stderr })
}
