//! The harness: rooms to test plugins in, tools to act and observe there, and reports. It knows no
//! case: the executable passes in a registry (see [`job::Registry`]).

pub mod baseline;
pub mod cache;
pub mod case;
pub mod cluster;
pub mod config;
pub mod diff;
pub mod dns_client;
pub mod fake;
pub mod faults;
pub mod frame;
pub mod golden;
pub mod ip;
pub mod job;
pub mod judge;
pub mod leftover;
pub mod machine;
pub mod namespace;
pub mod need;
pub mod options;
pub mod patience;
pub mod processor;
pub mod report;
pub mod rng;
pub mod room;
pub mod runner;
pub mod snapshot;
pub mod socket;
pub mod stage;
pub mod store;
pub mod strace;
pub mod untouched;
pub mod vm;
pub mod wall_clock;
pub mod world;
