//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseMacError(String);

impl Mac {
    /// All ones: everybody on the link.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// A locally administered unicast address from the kernel's random generator.
    ///
    /// # Errors
    /// `getrandom` failed.
    pub fn random() -> crate::Result<Self> {
        unimplemented!()
    }

    /// A locally administered unicast address made of these six bytes (a hash, for an address that a restarted
    /// process would choose again).
    pub fn locally_administered(bytes: [u8; 6]) -> Self {
        unimplemented!()
    }
}

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        unimplemented!()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for ParseMacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "address {}: invalid MAC address", self.0)
    }
}

impl std::error::Error for ParseMacError {}
