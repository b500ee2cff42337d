//! The environment of a request (C-010..C-014).

use std::ffi::{OsStr, OsString};

use crate::text::quoted;
use crate::{Code, Command, Error};

/// The variables that a runtime sets. An empty one counts as unset (C-010).
#[derive(Clone, Debug, Default)]
pub struct Env {
    command: OsString,
    container_id: OsString,
    netns: OsString,
    ifname: OsString,
    args: OsString,
    path: OsString,
    netns_override: OsString,
}

/// The value of `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommandVariable {
    /// Unset: a person calls the plugin by hand.
    Unset,
    /// VERSION
    Version,
    /// A command of [`Command`].
    Command(Command),
    /// Something else.
    Unknown,
}

/// The variables of a command, checked; those that it does not use are empty.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    pub(crate) args: String,
    pub(crate) path: String,
}

impl Env {
    /// The names of the variables.
    const NAMES: [&'static str; 7] = [
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_IFNAME",
        "CNI_ARGS",
        "CNI_PATH",
        "CNI_NETNS_OVERRIDE",
    ];

    /// The environment of this process.
    pub fn of_process() -> Self {
        Self::NAMES.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect()
    }

    /// The variables that are set.
    pub(crate) fn set(&self) -> impl Iterator<Item = (&'static str, &OsStr)> {
        let values = [
            &self.command,
            &self.container_id,
            &self.netns,
            &self.ifname,
            &self.args,
            &self.path,
            &self.netns_override,
        ];
        let all = Self::NAMES.into_iter().zip(values.map(OsString::as_os_str));
        all.filter(|(_, value)| !value.is_empty())
    }

    /// A copy with another command.
    pub(crate) fn with_command(&self, command: Command) -> Self {
        Self { command: command.as_str().into(), ..self.clone() }
    }

    pub(crate) fn command(&self) -> CommandVariable {
        match self.command.to_str() {
            Some("") => CommandVariable::Unset,
            Some("VERSION") => CommandVariable::Version,
            Some(name) => Command::of(name).map_or(CommandVariable::Unknown, CommandVariable::Command),
            None => CommandVariable::Unknown,
        }
    }

    pub(crate) fn unknown_command(&self) -> Error {
        let name = self.command.to_string_lossy();
        Error::new(Code::InvalidEnvironment, format!("unknown CNI_COMMAND: {}", quoted(&name)))
    }

    /// Whether the plugin's own namespace may be the container's (C-112).
    pub(crate) fn netns_override(&self) -> bool {
        self.netns_override == "1" || self.netns_override.eq_ignore_ascii_case("true")
    }

    /// Checks the variables in order. The error names the first malformed one, otherwise all
    /// missing ones (C-011). Variables that the command does not use are not checked (C-012).
    pub(crate) fn check(&self, command: Command) -> Result<Checked, Error> {
        let attaches = matches!(command, Command::Add | Command::Check | Command::Del);
        let mut missing = Vec::new();
        let mut take = |name: &'static str, value: &OsStr, mandatory: bool| {
            if value.is_empty() && mandatory {
                missing.push(name);
            }
            value.to_str().map(str::to_owned).ok_or_else(|| malformed(&format!("{name} is not UTF-8")))
        };
        let mut checked = Checked::default();
        if attaches {
            checked.container_id = match take("CNI_CONTAINERID", &self.container_id, true) {
                Ok(id) if id.is_empty() || is_identifier(&id) => id,
                _ => {
                    let id = self.container_id.to_string_lossy();
                    return Err(malformed("invalid characters in containerID").details(id));
                }
            };
            checked.netns = take("CNI_NETNS", &self.netns, command != Command::Del)?;
            checked.ifname = take("CNI_IFNAME", &self.ifname, true)?;
            if !checked.ifname.is_empty() {
                check_ifname(&checked.ifname)?;
            }
            checked.args = take("CNI_ARGS", &self.args, false)?;
        }
        checked.path = take("CNI_PATH", &self.path, true)?;
        if missing.is_empty() {
            return Ok(checked);
        }
        Err(malformed(&format!("required env variables [{}] missing", missing.join(","))))
    }
}

impl<K: AsRef<str>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    /// Drops variables with other names: plugins do not read them.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut env = Self::default();
        for (name, value) in pairs {
            let slot = match name.as_ref() {
                "CNI_COMMAND" => &mut env.command,
                "CNI_CONTAINERID" => &mut env.container_id,
                "CNI_NETNS" => &mut env.netns,
                "CNI_IFNAME" => &mut env.ifname,
                "CNI_ARGS" => &mut env.args,
                "CNI_PATH" => &mut env.path,
                "CNI_NETNS_OVERRIDE" => &mut env.netns_override,
                _ => continue,
            };
            *slot = value.into();
        }
        env
    }
}

fn malformed(msg: &str) -> Error {
    Error::new(Code::InvalidEnvironment, msg)
}

/// The form of container ids and network names: `[a-zA-Z0-9][a-zA-Z0-9_.\-]*`.
pub fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether an interface may have this name (C-013).
pub fn is_ifname(name: &str) -> bool {
    !name.is_empty() && check_ifname(name).is_ok()
}

/// C-013
fn check_ifname(name: &str) -> Result<(), Error> {
    if name.len() > 15 {
        return Err(malformed("interface name is too long")
            .details("interface name should be less than 16 characters"));
    }
    if name == "." || name == ".." {
        return Err(malformed("interface name is . or .."));
    }
    if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Err(malformed("interface name contains / or : or whitespace characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().copied().collect()
    }

    const GOOD: &[(&str, &str)] = &[
        ("CNI_CONTAINERID", "pod_1.a-b"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];

    fn with(name: &str, value: &str) -> Env {
        GOOD.iter().copied().chain([(name, value)]).collect()
    }

    /// C-011: all missing names, in table order, comma without space; an empty value is missing
    /// (C-010).
    #[test]
    fn one_error_names_all_missing_variables() {
        for (command, names) in [
            (Command::Add, "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            (Command::Check, "CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH"),
            (Command::Del, "CNI_CONTAINERID,CNI_IFNAME,CNI_PATH"),
            (Command::Gc, "CNI_PATH"),
            (Command::Status, "CNI_PATH"),
        ] {
            let error = env(&[("CNI_NETNS", ""), ("CNI_IFNAME", "")]).check(command).unwrap_err();
            assert_eq!(error.msg, format!("required env variables [{names}] missing"));
            assert_eq!((error.code, error.details.as_str()), (4, ""));
        }
        assert!(env(GOOD).check(Command::Add).is_ok());
        assert_eq!(with("CNI_NETNS", "").check(Command::Del).unwrap().netns, "");
    }

    /// C-011: a malformed value wins over missing ones; of two malformed ones the first in table
    /// order.
    #[test]
    fn a_malformed_variable_wins_over_missing_ones() {
        let error = env(&[("CNI_IFNAME", "a/b")]).check(Command::Add).unwrap_err();
        assert_eq!(error.msg, "interface name contains / or : or whitespace characters");
        let both = env(&[("CNI_IFNAME", "a/b"), ("CNI_CONTAINERID", "a b")]);
        assert_eq!(both.check(Command::Del).unwrap_err().msg, "invalid characters in containerID");
    }

    /// C-022: which characters an id may have; its length is not limited.
    #[test]
    fn container_ids_have_plain_characters() {
        let long = "a".repeat(5000);
        for id in ["0", "a", "a_.-", long.as_str()] {
            assert_eq!(with("CNI_CONTAINERID", id).check(Command::Add).unwrap().container_id, id);
        }
        for id in ["-a", "_a", ".a", "../x", "a/b", "a b", "a\n", "ä", "a\u{301}"] {
            let error = with("CNI_CONTAINERID", id).check(Command::Add).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (4, "invalid characters in containerID"));
            assert_eq!(error.details, id);
        }
    }

    /// C-013: the length is counted in bytes, and all Unicode white space is refused.
    #[test]
    fn interface_names_follow_the_kernels_rules() {
        for name in ["a", "eth0.1", "123456789012345", "é23456789012345"] {
            let good = with("CNI_IFNAME", name).check(Command::Add);
            assert_eq!(good.is_ok(), name.len() <= 15, "{name}");
        }
        for (name, msg) in [
            ("1234567890123456", "interface name is too long"),
            (".", "interface name is . or .."),
            ("..", "interface name is . or .."),
            ("a/b", "interface name contains / or : or whitespace characters"),
            ("a:b", "interface name contains / or : or whitespace characters"),
            ("a b", "interface name contains / or : or whitespace characters"),
            ("a\n", "interface name contains / or : or whitespace characters"),
            ("a\u{a0}b", "interface name contains / or : or whitespace characters"),
        ] {
            let error = with("CNI_IFNAME", name).check(Command::Del).unwrap_err();
            assert_eq!((error.code, error.msg.as_str()), (4, msg));
        }
        let long = with("CNI_IFNAME", "1234567890123456").check(Command::Add).unwrap_err();
        assert_eq!(long.details, "interface name should be less than 16 characters");
    }

    /// C-012
    #[test]
    fn gc_and_status_ignore_the_attachments_variables() {
        let env = env(&[("CNI_PATH", "/x"), ("CNI_CONTAINERID", "a b"), ("CNI_IFNAME", "a/b")]);
        for command in [Command::Gc, Command::Status] {
            let checked = env.check(command).unwrap();
            assert_eq!((checked.container_id.as_str(), checked.ifname.as_str()), ("", ""));
        }
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_malformed() {
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] {
            let good = GOOD.iter().map(|(name, value)| (*name, OsString::from(value)));
            let env: Env = good.chain([(name, OsString::from_vec(vec![b'a', 0xff]))]).collect();
            assert_eq!(env.check(Command::Del).unwrap_err().code, 4);
        }
        let env: Env = [("CNI_COMMAND", OsString::from_vec(vec![0xff]))].into_iter().collect();
        assert_eq!(env.command(), CommandVariable::Unknown);
        assert_eq!(env.unknown_command().msg, "unknown CNI_COMMAND: \u{fffd}");
    }

    /// The CNI specification writes commands in upper case; no other spelling counts.
    #[test]
    fn commands_are_upper_case() {
        assert_eq!(env(&[]).command(), CommandVariable::Unset);
        assert_eq!(env(&[("CNI_COMMAND", "")]).command(), CommandVariable::Unset);
        assert_eq!(env(&[("CNI_COMMAND", "VERSION")]).command(), CommandVariable::Version);
        assert_eq!(env(&[("CNI_COMMAND", "STATUS")]).command(), CommandVariable::Command(Command::Status));
        assert_eq!(env(&[("CNI_COMMAND", "add")]).command(), CommandVariable::Unknown);
        assert_eq!(env(&[("CNI_COMMAND", "ADD ")]).command(), CommandVariable::Unknown);
    }

    /// C-112
    #[test]
    fn the_netns_override_has_two_spellings() {
        for (value, on) in
            [("1", true), ("true", true), ("TRUE", true), ("0", false), ("yes", false), ("", false)]
        {
            assert_eq!(env(&[("CNI_NETNS_OVERRIDE", value)]).netns_override(), on, "{value}");
        }
    }
}
