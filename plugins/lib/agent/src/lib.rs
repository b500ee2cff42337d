//! How a plugin finds, starts and asks the agent of networks over many hosts. Files and packets are
//! described in the crate `cluster`.
