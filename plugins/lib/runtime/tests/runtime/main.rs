//! The runtime library against plugins that are shell scripts. Clauses are those of
//! `testdata/clauses`.
#![allow(clippy::unwrap_used)]

mod cache;
mod conflists;
mod execution;
mod gc;
mod operations;
mod requests;
mod support;
mod validation;
