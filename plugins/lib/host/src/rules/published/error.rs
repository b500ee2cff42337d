//! Why ports could not be published.

use std::fmt;

use nft::Protocol;

/// Why ports could not be published although the kernel refused nothing. Nothing was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another attachment has a port.
    Taken {
        /// The requested protocol, address and port, in the format of `nft`.
        wanted: String,
        /// The ports that are taken.
        taken: String,
        /// The owner: see [`crate::Owner::label`].
        owner: String,
    },
    /// Another container, which is alive, has the container's address too.
    AddressInUse {
        /// The address, in the format of the set.
        address: String,
        /// The owner: see [`crate::Owner::label`].
        owner: String,
    },
    /// No free port of this protocol is left.
    NoneFree(u8),
    /// There are more separate ports and ranges than [`super::RUNS_MAX`].
    TooMany(usize),
    /// There are more elements than [`super::ELEMENTS_MAX`].
    TooManyMoved(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { wanted, taken, owner } => write!(
                f,
                "host port {wanted} is taken: {owner} (network, interface, container) publishes {taken}"
            ),
            Self::AddressInUse { address, owner } => write!(
                f,
                "the address of {owner} (network, interface, container), which is alive, is this container's too \
                 ({address}): give the networks subnets that do not overlap"
            ),
            Self::NoneFree(proto) => write!(
                f,
                "hostPort 0: no {} port from {} to {} is free: all are published, or programs of this host have them",
                Protocol(*proto),
                super::free::RANGE.0,
                super::free::RANGE.1,
            ),
            Self::TooMany(count) => write!(
                f,
                "{count} separate ports and ranges are too many: {} is the most for one attachment",
                super::RUNS_MAX
            ),
            Self::TooManyMoved(count) => write!(
                f,
                "{count} elements are too many: {} is the most for one attachment; a range whose container ports are \
                 the host ports takes one element, any other one for each port",
                super::ELEMENTS_MAX
            ),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for sys::Error {
    fn from(refusal: Refusal) -> Self {
        Self::Other(Box::new(refusal))
    }
}
