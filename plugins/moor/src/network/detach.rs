//! DEL of an attachment, for who is not its runtime.

use runtime::{Conflist, Runtime};

use crate::context::Context;
use crate::model::{Attachment, State};
use crate::networks::Networks;

/// Runs DEL by the list that the attachment was made with, or the present one. What is gone gets no
/// namespace: its path may be another container's by now.
pub fn detach(context: &Context, networks: &Networks, attachment: &Attachment) -> Result<(), String> {
    let Some(record) = &attachment.record else {
        return Err("it has no record, so nobody knows how it was made: end the container".into());
    };
    let cached = Conflist::from_bytes(&record.config).ok();
    let present = || networks.named(&record.network).map(|network| network.list.clone());
    let Some(list) = cached.or_else(present) else {
        return Err("the list that it was made with is not on record, and no conflist has its name".into());
    };
    let mut own = record.attachment.clone();
    own.netns = attachment.netns.clone().filter(|_| attachment.state != State::Gone);
    let runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.del(&list, &own).map_err(|error| error.to_string())
}
