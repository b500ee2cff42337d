//! Networks that are isolated from each other.

/// Which packets from other networks, and from neighbours, reach a network's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    #[default]
    Open,
    /// Those of neighbours, and of networks that are not isolated.
    SameBridge,
    /// Those of networks that are not isolated.
    Isolated,
}
