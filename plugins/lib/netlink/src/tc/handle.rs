//! The number of a queueing discipline or class.

use std::fmt;

/// A queueing discipline's number (`6d6f:`), or that of one of its classes (`6d6f:1`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handle(
    /// The discipline's number in the upper half, the class's in the lower.
    pub u32,
);

impl Handle {
    /// Lets the kernel choose; also the handle of a default discipline.
    pub const NONE: Self = Self(0);
    /// As a parent: the packets that leave by a link (TC_H_ROOT).
    pub const ROOT: Self = Self(0xffff_ffff);
    /// As a parent: the packets that arrive by a link (TC_H_INGRESS).
    pub const INGRESS: Self = Self(0xffff_fff1);
    /// As a parent: the filters for arriving packets, of either discipline that has such
    /// (TC_H_MIN_INGRESS).
    pub const ARRIVING: Self = Self(0xffff_fff2);

    /// Whether it is that of a discipline that somebody configured.
    pub fn is_configured(self) -> bool {
        self != Self::NONE
    }

    /// The number of a discipline.
    pub const fn discipline(major: u16) -> Self {
        Self((major as u32) << 16)
    }

    /// The number of one of its classes.
    pub const fn class(self, minor: u16) -> Self {
        Self(self.0 & 0xffff_0000 | minor as u32)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 >> 16, self.0 & 0xffff) {
            (major, 0) => write!(f, "{major:x}:"),
            (major, minor) => write!(f, "{major:x}:{minor:x}"),
        }
    }
}
