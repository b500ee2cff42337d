//! `leave`: takes this host out of the cluster. And how the agent is asked.

use std::path::Path;
use std::time::Duration;

use agent::{Client, Files};
use cluster::control::{Answer, Outcome, Request};

use super::failure::Failure;
use super::table::clean;

/// The longest wait for the agent's state.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait until nothing of the host is left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks the agent of this network namespace. It is started to leave; else it must run.
pub(super) fn ask_agent(config: &Path, request: &Request) -> Result<Answer, Failure> {
    let files = Files::of_process().map_err(|error| Failure::unreachable(format!("{error:#}")))?;
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_owned));
    let beside = beside.map(|path| path.display().to_string()).unwrap_or_default();
    let client = Client { files: &files, settings: config, cni_path: &beside };
    if matches!(request, Request::Leave { .. }) {
        return client.ask_or_start(request, LEAVE_TIMEOUT).map_err(|error| Failure::unreachable(error.msg));
    }
    client.ask(request, STATUS_TIMEOUT).map_err(|error| {
        let failure = Failure::unreachable(error.to_string());
        if error.is_absent() {
            failure.hint("any ADD starts it, or `systemctl start moor-overlay`; containers go on without it")
        } else {
            failure
        }
    })
}

/// What the agent is asked.
pub(super) fn request(force: bool) -> Request {
    Request::Leave { force }
}

/// What is printed.
pub(super) fn leave(answer: &Answer) -> Result<String, Failure> {
    let why = clean(answer.why.as_deref().unwrap_or("the agent gave no reason"));
    match answer.outcome {
        Outcome::Done => Ok("this host has left the cluster; its agent has ended\n".into()),
        Outcome::Queued => Err(Failure::refused(format!("this host has not left: {why}"))
            .hint("etcd must hear of it: run the command again when `overlay status` names a member")),
        Outcome::Failed => Err(Failure::refused(format!("this host has not left: {why}"))),
    }
}
