//! One executable that holds several plugins and runs the one by the name of which it is called.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::build;
use crate::env::{CommandVariable, Env};
use crate::serve::{self, AnyPlugin, Streams};
use crate::stdio::{Stdin, Stdout};
use crate::{Error, Plugin, RELEASE, Version};

/// A plugin of an executable that holds several.
#[derive(Clone, Copy)]
pub struct Member(&'static (dyn AnyPlugin + Sync));

impl Member {
    /// The plugin as a member.
    pub const fn new<P: Plugin + Sync>(plugin: &'static P) -> Self {
        Self(plugin)
    }

    pub(crate) fn plugin(self) -> &'static dyn AnyPlugin {
        self.0
    }
}

/// The plugins of this executable; a delegate among them needs no process of its own.
static MEMBERS: OnceLock<&'static [Member]> = OnceLock::new();

/// The main function of such an executable. The name by which it is called (a link or a copy)
/// selects the plugin, otherwise the first argument does.
pub fn multicall(members: &'static [Member]) -> ExitCode {
    let members = MEMBERS.get_or_init(|| members);
    let mut arguments = std::env::args_os();
    let called = arguments.next().unwrap_or_default();
    let mut arguments = arguments.peekable();
    let by_name = Path::new(&called).file_name().and_then(|name| named(members, name));
    let member = by_name.or_else(|| {
        let member = named(members, arguments.peek()?)?;
        arguments.next();
        Some(member)
    });
    let mut streams = Streams { stdin: &mut Stdin, stdout: &mut Stdout, stderr: &mut std::io::stderr() };
    let env = Env::of_process();
    match member {
        Some(member) => serve::main(member.plugin(), &env, &mut arguments, &mut streams).into(),
        None => report_unknown_name(members, &env, &called, &mut streams).into(),
    }
}

/// The member of this name, if the program at this path is this executable or a copy of it.
pub(crate) fn find(name: &str, program: &Path) -> Option<Member> {
    let member = named(MEMBERS.get()?, OsStr::new(name))?;
    build::is_same(program, Path::new("/proc/self/exe")).unwrap_or(false).then_some(member)
}

fn named(members: &[Member], name: &OsStr) -> Option<Member> {
    let is =
        |plugin: &dyn AnyPlugin| plugin.name() == name || plugin.aliases().iter().any(|alias| name == *alias);
    members.iter().copied().find(|member| is(member.plugin()))
}

/// No name selects a plugin: a runtime gets an error, a person a list of the plugins.
fn report_unknown_name(members: &[Member], env: &Env, called: &OsString, streams: &mut Streams<'_>) -> u8 {
    let names: Vec<_> = members.iter().map(|member| member.plugin().name()).collect();
    let names = names.join(", ");
    let called = called.to_string_lossy();
    if env.command() != CommandVariable::Unset {
        let error = Error::invalid_config(format!("{called:?} is not the name of a plugin"))
            .details(format!("link this executable to one of these names: {names}"));
        // When standard output is closed, there is no other place to report to.
        let _ = streams.stdout.write_all(&error.print(Version::NEWEST));
        return 1;
    }
    let text = format!(
        "moor-plugins {RELEASE}: CNI plugins in one executable: {names}\n\nLink it to the name of a plugin, or give the name as the first argument:\n  moor-plugins bridge --help\n"
    );
    u8::from(streams.stdout.write_all(text.as_bytes()).is_err())
}
