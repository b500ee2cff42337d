//! The piece of an attachment. Pure.

use host::piece::{Piece, VrfPort};

use crate::config::Config;

/// The container's interface in its VRF.
pub fn plan(config: &Config, ifname: &str) -> Piece {
    Piece::VrfPort(VrfPort { link: ifname.to_owned(), vrf: config.name.clone(), table: config.table })
}
