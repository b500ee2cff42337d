//! What is printed: text that holds no control character from outside, tables, and JSON documents.

mod document;
mod table;
mod text;

pub use crate::escape::escaped;
pub use document::{Note, document, notes};
pub use table::Table;
pub use text::print;
