//! How a command ends.

use std::fmt;

/// The exit status of a command that printed what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, and nothing wrong was found.
    Done,
    /// 1: done, and something is wrong, was not found, or was refused.
    Found,
    /// 2: the command line cannot be understood.
    Usage,
    /// 3: the question was not answered wholly; the notes name what is missing.
    Incomplete,
    /// The status of the command that was run, or 125 to 127 when it could not be.
    Status(u8),
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Incomplete => 3,
            Self::Status(code) => code,
        }
    }
}

/// Why a command printed nothing, or stopped.
#[derive(Debug)]
pub struct Failure {
    /// The status that the process ends with.
    pub exit: Exit,
    /// What was tried, on what, and why it failed. It may hold names from outside: it is escaped
    /// when it is printed.
    pub text: String,
    /// What a person can do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// Exit status 1: refused, or not found.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { exit: Exit::Found, text: text.into(), hint: None }
    }

    /// Exit status 2: the arguments are wrong.
    pub fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into(), hint: None }
    }

    /// Exit status 3: something that the answer needs cannot be seen.
    pub fn incomplete(text: impl Into<String>) -> Self {
        Self { exit: Exit::Incomplete, text: text.into(), hint: None }
    }

    /// The same with what a person can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<sys::Error> for Failure {
    /// What only root may do is not done: exit status 3. Anything else is exit status 1.
    fn from(error: sys::Error) -> Self {
        const EPERM: i32 = 1;
        const EACCES: i32 = 13;
        match error.errno() {
            Some(EPERM | EACCES) => Self::incomplete(format!("needs root: {error:#}")),
            _ => Self::refused(format!("{error:#}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.hint.iter().try_for_each(|hint| write!(f, "\n{hint}"))
    }
}
