//! CHECK of each plugin, by the list of the time of ADD.

use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use runtime::{Attachment, Conflist, Runtime};
use serde::Serialize;

use crate::context::Context;

/// How long the plugins of a list may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// CHECK of Moor's plugins makes rules again that are on record here.
const RECORDS: &str = "/run/moor/intent";
/// The plugin whose CHECK starts the responder.
const DNS: &str = "dns";

/// What a plugin found wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// The plugin's type.
    #[serde(rename = "type")]
    pub plugin: String,
    /// Its own words.
    pub text: String,
}

/// What the plugins answered.
#[derive(Debug, Default)]
pub struct Checked {
    pub faults: Vec<Fault>,
    /// Why CHECK was not run.
    pub not_run: Option<String>,
}

/// How CHECK is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// What is on record is hidden from the plugins, so that they change nothing.
    Look,
    /// They may mend.
    Mend,
}

/// Runs CHECK of each plugin.
pub fn check(
    context: &Context,
    list: &Conflist,
    attachment: &Attachment,
    manner: Manner,
    dns: bool,
) -> Checked {
    let is_new = runtime::version::at_least(&list.version, "0.4.0").unwrap_or(false);
    if !is_new {
        return Checked {
            not_run: Some(format!("CHECK is not in version {}", list.version)),
            ..Checked::default()
        };
    }
    if list.disable_check {
        return Checked { not_run: Some("the conflist has disableCheck".into()), ..Checked::default() };
    }
    let mut runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.timeout = TIMEOUT;
    runtime.forward_stderr = false;
    let all = || {
        let asked = list.plugins.iter().filter(|plugin| dns || plugin.plugin_type != DNS);
        let faults = asked.filter_map(|plugin| {
            let alone = Conflist { plugins: vec![plugin.clone()], ..list.clone() };
            let error = runtime.check(&alone, attachment).err()?;
            Some(Fault { plugin: plugin.plugin_type.clone(), text: error.to_string() })
        });
        Checked { faults: faults.collect(), not_run: None }
    };
    match manner {
        Manner::Mend => all(),
        Manner::Look => apart(all).unwrap_or_else(|reason| Checked {
            not_run: Some(format!("CHECK would mend: {reason}")),
            ..Checked::default()
        }),
    }
}

/// Runs it on a thread of its own, in a mount namespace where no rules are on record.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, String> {
    let inside = move || -> Result<T, String> {
        hide().map_err(|error| format!("hide {RECORDS}: {error}"))?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = scope.spawn(inside);
        thread.join().unwrap_or_else(|_| Err("the thread that runs plugins ended".into()))
    })
}

fn hide() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    if Path::new(RECORDS).is_dir() {
        mount(Some("tmpfs"), RECORDS, Some("tmpfs"), MsFlags::empty(), Some("mode=0700"))?;
    }
    Ok(())
}
