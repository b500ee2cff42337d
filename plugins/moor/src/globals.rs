//! What every command takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args};

/// What every command takes.
#[derive(Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Globals {
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// `json` or `table`
    #[arg(long, global = true, value_name = "FORMAT", value_parser = parse_format)]
    pub format: Option<Format>,
    /// Directory of conflists, instead of $NETCONFPATH or /etc/cni/net.d; may be given several times
    #[arg(long, global = true, value_name = "DIR")]
    pub dir: Vec<PathBuf>,
    /// Directories of plugins, instead of $CNI_PATH or /opt/cni/bin:/usr/lib/cni:/usr/libexec/cni
    #[arg(long, global = true, value_name = "PATH")]
    pub cni_path: Option<OsString>,
    /// Directory of the runtimes' records, instead of $CNI_CACHE_DIR or /var/lib/cni
    #[arg(long, global = true, value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// No colours
    #[arg(long, global = true)]
    pub no_color: bool,
    /// Report on standard error what is read from where
    #[arg(short, long, global = true, action = ArgAction::SetTrue)]
    pub verbose: bool,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// One document.
    Json,
    /// Text for people.
    Table,
}

impl Format {
    /// Whether one document was asked for.
    pub fn is_json(self) -> bool {
        self == Self::Json
    }
}

fn parse_format(text: &str) -> Result<Format, String> {
    match text {
        "json" => Ok(Format::Json),
        "table" => Ok(Format::Table),
        _ if text.contains("{{") => Err("templates are not supported; use --json, and jq to choose".into()),
        _ => Err("expected json or table".into()),
    }
}
