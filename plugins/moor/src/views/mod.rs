//! The views of the model.

pub mod names;
pub mod ports;
pub mod ps;
pub mod who;
