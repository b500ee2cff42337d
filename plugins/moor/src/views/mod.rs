//! The views of the model.

pub mod ps;
