//! A network of the file as a description that conflists are made of.

use super::networks::Network;
use super::plan::Remarks;
use super::project::Project;

/// Remarks on what no conflist has.
pub fn unhonoured(_project: &Project, _network: &Network, _remarks: &mut Remarks<'_>) {}
