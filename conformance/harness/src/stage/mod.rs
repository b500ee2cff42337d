//! Stages: what is set up before a case or a measurement begins, with its clients and servers.

pub mod answer;
pub mod conflists;
pub mod dhcp;
pub mod dns;
pub mod firewall;
pub mod firewalld;
pub mod lan;
pub mod load;
pub mod portmap;
pub mod reapply;
pub mod tuning;
pub mod two_ways;
pub mod upstream;
