//! The commands of the protocol.

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// ADD
    Add,
    /// CHECK
    Check,
    /// DEL
    Del,
    /// GC
    Gc,
    /// STATUS
    Status,
}

impl Command {
    /// The value of `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Del => "DEL",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        let all = [Self::Add, Self::Check, Self::Del, Self::Gc, Self::Status];
        all.into_iter().find(|command| command.as_str() == name)
    }
}
