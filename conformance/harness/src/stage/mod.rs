//! Stages: what is set up before a case or a measurement begins, and who asks and answers there.

pub mod conflists;
pub mod dns;
pub mod lan;
pub mod load;
pub mod portmap;
pub mod reapply;
pub mod upstream;
