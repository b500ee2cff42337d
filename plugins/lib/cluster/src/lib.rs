//! What the hosts of a cluster share, and what follows from it: keys and records of etcd, files of a
//! host, requests to its agent, blocks of addresses, and what a host's kernel must hold.
//!
//! Nothing here does I/O, reads a clock or draws a random number.

pub mod block;
pub mod check;
pub mod control;
pub mod decode;
pub mod fuzz;
pub mod key;
pub mod left_out;
pub mod local;
pub mod mac;
pub mod net;
mod prefix;
pub mod record;
pub mod settings;
mod usable;
pub mod wanted;

/// The version of records and files that this release writes.
pub const VERSION: u32 = 1;
/// The first VXLAN id of ours; all of them begin with byte 6d.
pub const VNI_FIRST: u32 = 0x6d_0001;
/// The last VXLAN id of ours.
pub const VNI_LAST: u32 = 0x6d_ffff;
/// The longest key, in bytes.
pub const KEY_MAX: usize = 1 << 10;
/// The longest value, in bytes.
pub const VALUE_MAX: usize = 64 << 10;
/// The most records that an agent takes from etcd.
pub const RECORDS_MAX: usize = 20_000;
