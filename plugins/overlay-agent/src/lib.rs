//! The agent of networks over hosts: the one program of a host that speaks to etcd. It claims blocks
//! of addresses, publishes this host's containers, and programs the containers of the others.

pub mod etcd;
pub mod kernel;
