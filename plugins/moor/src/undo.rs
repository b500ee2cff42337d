//! DEL after an ADD that failed.

use runtime::{Attachment, Conflist, Error, ExecError, Runtime};

/// DEL of what a failed ADD has left. An operation on a list stops at the first error, and the
/// plugin that made ADD fail is asked first; the others are asked all the same.
///
/// # Errors
/// The first one, of a plugin that is there.
pub fn undo(runtime: &Runtime, list: &Conflist, attachment: &Attachment) -> Result<(), Error> {
    let mut rest = list.clone();
    let mut first = None;
    while let Err(error) = runtime.del(&rest, attachment) {
        if !is_missing(&error) {
            first.get_or_insert(error);
        }
        rest.plugins.pop();
        if rest.plugins.is_empty() {
            break;
        }
    }
    first.map_or(Ok(()), Err)
}

/// A plugin that is not there has done nothing.
fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Plugin { error, .. } if matches!(**error, ExecError::NotFound { .. }))
}
