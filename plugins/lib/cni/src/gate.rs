//! Which commands each version allows (C-030..C-034).

use crate::text::quoted;
use crate::{Code, Command, Error, Version};

/// Returns the version if a plugin that supports `supported` serves this command to a configuration
/// of version `wanted`.
pub(crate) fn pass(command: Command, wanted: &str, supported: &[Version]) -> Result<Version, Error> {
    let since = match command {
        Command::Add | Command::Del => None,
        Command::Check => Some(Version::V0_4_0),
        Command::Gc | Command::Status => Some(Version::V1_1_0),
    };
    if let Some(since) = since {
        let order = Order::of(wanted)?;
        let refused = |who| {
            let msg = format!("{who} version does not allow {}", command.as_str());
            Err(Error::new(Code::IncompatibleVersion, msg))
        };
        if order < Order::known(since) {
            return refused("config");
        }
        if supported.iter().all(|version| Order::known(*version) < order) {
            return refused("plugin");
        }
    }
    let version = supported.iter().copied().find(|version| version.as_str() == wanted);
    version.ok_or_else(|| {
        let supported: Vec<_> = supported.iter().map(|version| format!("\"{version}\"")).collect();
        Error::new(Code::IncompatibleVersion, "incompatible CNI versions").details(format!(
            "config is \"{}\", plugin supports [{}]",
            quoted(wanted),
            supported.join(" ")
        ))
    })
}

/// The order of a version among others: up to three dotted integers; missing ones are 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order([i64; 3]);

impl Order {
    fn of(version: &str) -> Result<Self, Error> {
        let malformed =
            |why: &str| Error::new(Code::Decode, format!("invalid version \"{}\": {why}", quoted(version)));
        let mut order = [0; 3];
        for (position, part) in version.split('.').enumerate() {
            let slot = order.get_mut(position).ok_or_else(|| malformed("too many parts"))?;
            *slot = part.parse().map_err(|_| malformed("a part is not a number"))?;
        }
        Ok(Self(order))
    }

    fn known(version: Version) -> Self {
        Self(match version {
            Version::V0_1_0 => [0, 1, 0],
            Version::V0_2_0 => [0, 2, 0],
            Version::V0_3_0 => [0, 3, 0],
            Version::V0_3_1 => [0, 3, 1],
            Version::V0_4_0 => [0, 4, 0],
            Version::V1_0_0 => [1, 0, 0],
            Version::V1_1_0 => [1, 1, 0],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(command: Command, wanted: &str) -> (u32, String, String) {
        let error = pass(command, wanted, Version::ALL).unwrap_err();
        (error.code, error.msg, error.details)
    }

    /// C-031: versions are compared as strings.
    #[test]
    fn add_and_del_accept_exactly_the_advertised_versions() {
        for command in [Command::Add, Command::Del] {
            for version in Version::ALL {
                assert_eq!(pass(command, version.as_str(), Version::ALL).unwrap(), *version);
            }
            for wanted in ["0.9.0", "1.0", "1.0.0 ", "1.2.0", "a.b.c.d"] {
                let details = format!(
                    "config is \"{wanted}\", plugin supports \
                     [\"0.1.0\" \"0.2.0\" \"0.3.0\" \"0.3.1\" \"0.4.0\" \"1.0.0\" \"1.1.0\"]"
                );
                assert_eq!(refusal(command, wanted), (1, "incompatible CNI versions".into(), details));
            }
        }
        let supported = &[Version::V0_4_0, Version::V1_0_0];
        let error = pass(Command::Add, "0.3.1", supported).unwrap_err();
        assert_eq!(error.details, "config is \"0.3.1\", plugin supports [\"0.4.0\" \"1.0.0\"]");
    }

    /// C-032, C-033
    #[test]
    fn later_commands_need_later_versions() {
        for (command, name, below, first) in [
            (Command::Check, "CHECK", &["0.1.0", "0.3.1", "0.3.99", "0"][..], "0.4.0"),
            (Command::Gc, "GC", &["0.1.0", "0.4.0", "1.0.0", "1.0", "1"], "1.1.0"),
            (Command::Status, "STATUS", &["0.1.0", "0.4.0", "1.0.0"], "1.1.0"),
        ] {
            for wanted in below {
                let msg = format!("config version does not allow {name}");
                assert_eq!(refusal(command, wanted), (1, msg, String::new()));
            }
            for wanted in ["1.1.1", "1.2", "2", "99999999999.0.0"] {
                let msg = format!("plugin version does not allow {name}");
                assert_eq!(refusal(command, wanted), (1, msg, String::new()));
            }
            assert!(pass(command, first, Version::ALL).is_ok());
            assert_eq!(refusal(command, "1.1").1, "incompatible CNI versions");
        }
        assert_eq!(refusal(Command::Check, "0.9.0").1, "incompatible CNI versions");
    }

    /// C-034
    #[test]
    fn a_version_that_cannot_be_ordered_is_code_6() {
        for command in [Command::Check, Command::Gc, Command::Status] {
            for wanted in ["1.0.0.0", "1.x", "a", "1..0", "99999999999999999999"] {
                assert_eq!(refusal(command, wanted).0, 6, "{wanted}");
            }
        }
    }
}
