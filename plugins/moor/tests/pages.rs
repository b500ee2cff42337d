//! The man pages and the scripts that complete commands.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[allow(dead_code, reason = "its main is the example's")]
#[path = "../examples/man.rs"]
mod man;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::CommandFactory;
use clap_complete::Shell;
use moor::cli::Cli;

fn names(command: &clap::Command, name: &str, found: &mut BTreeSet<String>) {
    found.insert(format!("{name}.1"));
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        names(inner, &format!("{name}-{}", inner.get_name()), found);
    }
}

/// T-008: every command has a man page.
#[test]
fn every_command_has_a_man_page() {
    let dir = tempfile::tempdir().unwrap();
    man::write_all(dir.path()).unwrap();
    let mut tool = Cli::command();
    tool.build();
    let mut expected = BTreeSet::new();
    names(&tool, "moor", &mut expected);
    let pages = fs::read_dir(dir.path().join("man/man1")).unwrap();
    let written: BTreeSet<_> =
        pages.map(|page| page.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(written, expected);
    assert!(written.contains("moor-network-ls.1"));
    for name in &written {
        let text = fs::read_to_string(dir.path().join("man/man1").join(name)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}");
    }
}

/// T-008: the scripts parse in the shells that are here.
#[test]
fn scripts_parse_in_the_shells_that_are_here() {
    let dir = tempfile::tempdir().unwrap();
    man::write_all(dir.path()).unwrap();
    for (shell, path) in man::SCRIPTS {
        let script = dir.path().join(path);
        let text = fs::read_to_string(&script).unwrap();
        assert!(text.contains("completion") && text.contains("network"), "{shell}");
        let program = shell.to_string();
        let argument = if shell == Shell::Fish { "--no-execute" } else { "-n" };
        let Ok(output) = Command::new(&program).arg(argument).arg(&script).output() else {
            eprintln!("not run: {program} is not installed");
            continue;
        };
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:?}");
    }
}
