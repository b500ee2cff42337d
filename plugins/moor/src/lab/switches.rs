//! The switches by which a kernel forbids user namespaces.

use std::fs;

use crate::failure::Failure;

/// A switch, and the value that forbids.
const SWITCHES: [(&str, &str); 3] = [
    ("kernel.apparmor_restrict_unprivileged_userns", "1"),
    ("kernel.unprivileged_userns_clone", "0"),
    ("user.max_user_namespaces", "0"),
];

/// The failure, with the switch that explains it.
pub fn explain(failure: Failure) -> Failure {
    let read = |key: &str| fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).ok();
    match forbidding(read) {
        Some((switch, value)) => failure.hint(format!(
            "{switch} = {value} forbids namespaces to ordinary users; an administrator can change it by sysctl, \
             or run this as root"
        )),
        None => failure,
    }
}

/// The first switch that forbids, of the values that `read` returns.
fn forbidding(read: impl Fn(&str) -> Option<String>) -> Option<(&'static str, &'static str)> {
    SWITCHES.into_iter().find(|(switch, forbids)| read(switch).is_some_and(|value| value.trim() == *forbids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_forbids_is_named_and_no_other() {
        let set = |key: &str, value: &str| {
            let (key, value) = (key.to_owned(), value.to_owned());
            move |asked: &str| (asked == key).then(|| format!("{value}\n"))
        };
        for (switch, value) in SWITCHES {
            assert_eq!(forbidding(set(switch, value)), Some((switch, value)));
            assert_eq!(forbidding(set(switch, "15000")), None);
        }
    }
}
