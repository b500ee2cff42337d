//! Whose is it: the attachments of every runtime on this host, in one table. Every view is a
//! projection of it.

mod attachment;

pub use attachment::{Attachment, Drift, Pod, Port, State};

use crate::context::Context;
use crate::networks::Networks;
use crate::output::Note;

/// Everything that is known of the attachments of this host.
#[derive(Debug, Default)]
pub struct Model {
    /// The attachments, by network, container and interface.
    pub attachments: Vec<Attachment>,
    /// What could not be seen, and what is odd. The table is complete without notes.
    pub notes: Vec<Note>,
}

impl Model {
    /// Reads records and kernel, and changes nothing.
    pub fn read(context: &Context, _networks: &Networks) -> Self {
        let mut model = Self::default();
        match runtime::Cache::new(&context.cache_dir).list(None) {
            Ok(records) => model.attachments = records.into_iter().map(Attachment::from).collect(),
            Err(error) => model.notes.push(Note::new("records", error.to_string())),
        }
        model
    }
}
