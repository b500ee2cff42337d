//! A client of D-Bus that calls methods on the system bus and reads their answers: arguments are
//! strings, answers are what a caller here needs ([`Value`]). One thread, one connection, and a time
//! limit for each call. An asynchronous library would add 28 crates and 0.6 MB.
//!
//! Sections are those of the D-Bus specification (dbus.freedesktop.org/doc/dbus-specification.html).

mod address;
mod bus;
mod error;
pub mod fuzz;
mod message;
#[cfg(test)]
mod tests;
mod wire;

pub use bus::Bus;
pub use error::{Error, Result};
pub use message::{Object, Value};
