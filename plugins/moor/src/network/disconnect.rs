//! `moor network disconnect`: detaches a container of any runtime from a network.

use clap::Args;

use crate::context::Context;
use crate::default_route;
use crate::failure::{Exit, Failure};
use crate::model::{Attachment, Model, State};
use crate::networks::Networks;
use crate::output;

use super::connect::MARK;
use super::detach::detach;

pub const KIND: &str = "disconnected";

/// The arguments of `moor network disconnect`.
#[derive(Args)]
pub struct DisconnectArgs {
    /// Also when the attachment is its runtime's own, which will not know of it
    #[arg(short, long)]
    force: bool,
    /// Network
    network: String,
    /// Container: its name, namespace/pod, the beginning of its id, pid:N, or a path of a namespace
    container: String,
}

/// Disconnects the container.
pub fn run(context: &Context, args: &DisconnectArgs) -> Result<Exit, Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::incomplete("needs root: plugins change the host's network"));
    }
    let networks = Networks::read(context);
    let model = Model::read(context, &networks);
    let of_container = model.resolve(&args.container)?;
    let wanted: Vec<_> = of_container
        .into_iter()
        .filter(|one| one.network == args.network && one.state != State::Unrecorded)
        .collect();
    if wanted.is_empty() {
        return Err(Failure::refused(format!("{} is not on network {:?}", args.container, args.network)));
    }
    if let Some(own) = wanted.iter().find(|one| !args.force && !is_ours(one)) {
        let whose = own.runtime.as_deref().unwrap_or("its runtime");
        return Err(Failure::refused(format!(
            "{} of {} is an attachment that {whose} has made, and will not know to be gone",
            own.ifname,
            own.shown_name()
        ))
        .hint("-f disconnects it all the same"));
    }
    for one in &wanted {
        let failed = |error: String| {
            Failure::refused(format!(
                "disconnect {} from network {:?}: {error}",
                one.shown_name(),
                one.network
            ))
        };
        detach(context, &networks, one).map_err(failed)?;
    }
    if let Some(at) = wanted.iter().find_map(|one| one.namespace) {
        // A container that has ended has no routes.
        if let Ok(Some(netns)) = model.kernel.namespaces[at].open() {
            default_route::restore(&netns).map_err(|error| Failure::refused(format!("{error:#}")))?;
        }
    }
    if context.json {
        output::document(KIND, &wanted, &[])?;
    }
    Ok(Exit::Done)
}

/// `network connect` made it, or its container is gone, so that no runtime can miss it.
fn is_ours(attachment: &Attachment) -> bool {
    let args = attachment.record.as_ref().map(|record| record.attachment.args.as_slice()).unwrap_or_default();
    attachment.state == State::Gone || args.iter().any(|(key, _)| key == MARK)
}
