//! The error a plugin reports: one JSON object on standard output, exit status 1.

/// The codes of the specification's table (CNI spec 1.1.0, section "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration's version is not one that the plugin speaks, or does not have this command.
    IncompatibleVersion = 1,
    /// A key is known but its value is not supported; the message holds both.
    UnsupportedField = 2,
    /// The container is not known.
    UnknownContainer = 3,
    /// An environment variable is missing or malformed.
    InvalidEnvironment = 4,
    /// Standard input or output failed.
    Io = 5,
    /// The input is not what it should be: no JSON, no version.
    Decode = 6,
    /// The network configuration is invalid.
    InvalidConfig = 7,
    /// The network namespace is the plugin's own.
    InvalidNetNs = 8,
    /// A passing state of affairs; the runtime may try again.
    TryAgainLater = 11,
    /// STATUS: ADD cannot be served.
    NotAvailable = 50,
    /// STATUS: ADD cannot be served, and existing containers have limited connectivity.
    LimitedConnectivity = 51,
    /// Everything else.
    Internal = 999,
}

/// What went wrong, as the runtime will read it. Any `std::error::Error` becomes one with code 999 by `?`:
/// its chain of causes is joined with ": ", and the name of the errno found in the chain goes into the details.
///
/// Does not implement `std::error::Error` itself, so that the blanket conversion can exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// A code of the table, or a delegate's own.
    pub code: u32,
    /// One line for the person who reads the runtime's log: what was tried, on what, what the kernel said.
    pub msg: String,
    /// What else helps; empty is omitted.
    pub details: String,
}

impl Error {
    /// An error with a code of the table.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code: code as u32, msg: msg.into(), details: String::new() }
    }

    /// Code 999.
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(Code::Internal, msg)
    }

    /// The same error with these details.
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

impl<E: std::error::Error + 'static> From<E> for Error {
    fn from(_error: E) -> Self {
        unimplemented!()
    }
}
