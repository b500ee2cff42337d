//! The JSON document of a command: `{"v":1,"kind":...,"items":[...],"notes":[...]}`. Within `v`
//! fields are only added.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::failure::Failure;

use crate::escape::escaped;

use super::text::print;

/// Something that the person should know about the answer: what could not be read, or is odd.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// One word for scripts.
    pub code: &'static str,
    /// A sentence.
    pub text: String,
    /// The file that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Note {
    /// A note about no file.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), file: None }
    }

    /// A note about a file.
    pub fn about(code: &'static str, file: &Path, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), file: Some(file.to_owned()) }
    }
}

#[derive(Serialize)]
struct Document<'d, T> {
    v: u8,
    kind: &'static str,
    items: &'d [T],
    notes: &'d [Note],
}

/// Prints the document.
pub fn document<T: Serialize>(kind: &'static str, items: &[T], notes: &[Note]) -> Result<(), Failure> {
    let document = Document { v: 1, kind, items, notes };
    let text = serde_json::to_string(&document)
        .map_err(|error| Failure::refused(format!("encode the answer: {error}")))?;
    print(&(text + "\n"))
}

/// Prints the notes of an answer in text, on standard error.
pub fn notes(notes: &[Note]) {
    for note in notes {
        let file = note.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default();
        eprintln!("moor: {}", escaped(&format!("{file}{}", note.text)));
    }
}
