//! Writes the man pages and the scripts that complete commands into a directory, laid out as below
//! `/usr/local/share`: `cargo run -p moor --example man -- DIR`. `make man` runs it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};
use clap_mangen::generate_to;
use moor::cli::Cli;

/// The shells, each with the place of its script.
pub const SCRIPTS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/moor"),
    (Shell::Zsh, "zsh/site-functions/_moor"),
    (Shell::Fish, "fish/vendor_completions.d/moor.fish"),
];

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: man DIR");
        return ExitCode::from(2);
    };
    match write_all(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("write below {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// Writes all files below a directory.
pub fn write_all(dir: &Path) -> io::Result<()> {
    let pages = dir.join("man/man1");
    fs::create_dir_all(&pages)?;
    // One for each command: `moor-network-ls.1`.
    generate_to(Cli::command(), &pages)?;
    for (shell, path) in SCRIPTS {
        let mut script = Vec::new();
        generate(shell, &mut Cli::command(), "moor", &mut script);
        let file = dir.join(path);
        fs::create_dir_all(file.parent().unwrap_or(dir))?;
        fs::write(file, script)?;
    }
    Ok(())
}
