//! `moor lint`: finds what is wrong in conflists, and shows where.

mod across;
mod addresses;
mod cluster;
pub mod fuzz;
mod host;
mod keys;
mod list;
mod order;
mod read;
mod report;
mod rules;
mod tables;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::Args;

use crate::context::Context;
use crate::diagnostic::{Diagnostic, Severity};
use crate::failure::{Exit, Failure};
use crate::output::{Note, document, notes, print};

use across::Addresses;
use host::{Host, Plugins};
use report::{File, Form, Report};

pub use tables::keys_of_plugin;

/// The arguments of `moor lint`.
#[derive(Args)]
pub struct LintArgs {
    /// Exit with 1 on warnings, too
    #[arg(long)]
    strict: bool,
    /// Ask each plugin for its versions (VERSION)
    #[arg(long, conflicts_with = "offline")]
    exec: bool,
    /// Look at the files alone, not at this host
    #[arg(long)]
    offline: bool,
    /// Files and directories, instead of the configuration directories
    #[arg(value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

/// Checks the files, and prints what is wrong.
pub fn run(context: &Context, args: &LintArgs) -> Result<Exit, Failure> {
    let paths = if args.paths.is_empty() { &context.dirs } else { &args.paths };
    if let Some(missing) =
        paths.iter().find(|path| !args.paths.is_empty() && path.symlink_metadata().is_err())
    {
        return Err(Failure::refused(format!("{}: there is no such file or directory", missing.display())));
    }
    let paths: Vec<PathBuf> =
        paths.iter().filter(|path| path.exists() || path.is_symlink()).cloned().collect();
    let found = lint(context, &paths, args.exec, args.offline);
    if context.json {
        document("lint", &found.diagnostics, &found.notes)?;
    } else {
        found.print(context)?;
    }
    Ok(found.exit(args.strict))
}

/// What a run found.
#[derive(Debug)]
pub struct Found {
    /// In the order of files, and of places in a file.
    pub diagnostics: Vec<Diagnostic>,
    /// What could not be looked at.
    pub notes: Vec<Note>,
    files: usize,
    is_incomplete: bool,
}

/// Checks files and directories; `offline` leaves this host out.
pub fn lint(context: &Context, paths: &[PathBuf], exec: bool, offline: bool) -> Found {
    let mut report = Report::default();
    let (mut files, mut settings) = (Vec::new(), 0);
    for path in paths {
        context.trace(&format!("checking {}", path.display()));
        if cluster::is_settings(path) {
            cluster::settings(path, &mut report);
            settings += 1;
            continue;
        }
        files.extend(read::path(path, &mut report));
    }
    let plugins = (!offline).then(|| Plugins::new(&context.cni_path));
    let all = each(&files, plugins.as_ref(), &mut report);
    across::names(&files, &mut report);
    across::bridges(&files, &mut report);
    across::subnets(&all, &mut report);
    let mut notes = Vec::new();
    let mut is_incomplete = !report.denied.is_empty();
    if let Some(plugins) = &plugins {
        files.iter().for_each(|file| across::installed(context, file, plugins, exec, &mut report));
        let (host, fault) = Host::read();
        files.iter().for_each(|file| across::links(file, &host, &mut report));
        across::taken(&all, &host, &mut report);
        across::first(&files, |file| !is_loadable(file), &host, &mut report);
        cluster::of_lists(&files, &mut report);
        is_incomplete |= fault.is_some() || !report.denied.is_empty();
        notes.extend(fault.map(|fault| Note::new("incomplete", fault)));
    }
    let denied = report.denied.iter().map(|path| Note::about("unreadable", path, "permission denied"));
    notes.extend(denied.collect::<Vec<_>>());
    let (diagnostics, left_out) = report.into_found();
    if left_out > 0 {
        notes.push(Note::new("cut", format!("{left_out} more findings are left out")));
    }
    Found { diagnostics, notes, files: files.len() + settings, is_incomplete }
}

/// Checks each file by itself.
fn each<'f>(files: &'f [File], plugins: Option<&Plugins>, report: &mut Report) -> Vec<Addresses<'f>> {
    let mut all = Vec::new();
    for file in files {
        list::check(file, report);
        list::slips(file, report);
        order::check(file, report);
        order::names(file, report);
        for plugin in file.plugins() {
            keys::check(file, &plugin, plugins, report);
            rules::check(file, &plugin, report);
            cluster::check(file, &plugin, report);
            let subnets = addresses::check(file, &plugin, report);
            all.push(Addresses { file, plugin, subnets });
        }
    }
    all
}

/// Whether a runtime takes the file as a network.
fn is_loadable(file: &File) -> bool {
    let bytes = file.source.text.as_bytes();
    match file.form {
        Form::List => runtime::Conflist::parse(bytes).is_ok_and(|list| list.plugins.len() + file.parts > 0),
        Form::Single => runtime::Conflist::from_single(bytes).is_ok(),
        Form::Part => true,
    }
}

impl Found {
    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == severity).count()
    }

    fn exit(&self, strict: bool) -> Exit {
        let is_wrong = self.count(Severity::Error) > 0 || (strict && !self.diagnostics.is_empty());
        match (self.is_incomplete, is_wrong) {
            (true, _) => Exit::Incomplete,
            (false, true) => Exit::Found,
            (false, false) => Exit::Done,
        }
    }

    fn print(&self, context: &Context) -> Result<(), Failure> {
        let texts: Vec<String> = self.diagnostics.iter().map(|found| found.render(context.colour)).collect();
        notes(&self.notes);
        print(&texts.join("\n"))?;
        if !self.diagnostics.is_empty() {
            let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
            eprintln!("moor: files: {}, errors: {errors}, warnings: {warnings}", self.files);
        }
        Ok(())
    }
}
