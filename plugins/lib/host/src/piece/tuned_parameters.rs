//! Kernel parameters of the container's namespace that an administrator chooses.

use nix::libc;
use sys::{Result, sysctl};

use super::{Kernel, Part, Place, Undo};
use crate::Drift;

/// Parameters of the container's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunedParameters {
    /// The parameters, in the order in which they are set.
    pub settings: Vec<TunedParameter>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunedParameter {
    /// Components separated by `/`: `net/ipv4/conf/eth0/arp_filter`.
    pub key: String,
    /// The value, as an administrator writes it.
    pub value: String,
    /// What it was before, for the undo; `None` if the kernel does not print it.
    pub before: Option<String>,
}

impl Part for TunedParameters {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let before = self.settings.iter().filter_map(|it| Some((it.key.clone(), it.before.clone()?)));
        undo.push(Undo::Parameters(before.collect()));
        kernel.within(Place::Sandbox, || {
            self.settings.iter().try_for_each(|it| sysctl::write(&it.key, &it.value).map(drop))
        })?
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        kernel.within(Place::Sandbox, || self.settings.iter().filter_map(drift).collect())
    }
}

impl TunedParameter {
    /// What the kernel prints now for parameters of the container; `None` for one that it does not
    /// print, like `route/flush`, or `stable_secret` before it is set.
    ///
    /// # Errors
    /// A parameter does not exist, or the namespace cannot be entered.
    pub fn read<'k>(kernel: &Kernel, keys: impl Iterator<Item = &'k str>) -> Result<Vec<Option<String>>> {
        kernel.within(Place::Sandbox, || {
            let read = |key| match sysctl::read(key) {
                Err(error) if error.is_not_found() => Err(error),
                read => Ok(read.ok()),
            };
            keys.map(read).collect()
        })?
    }
}

fn drift(setting: &TunedParameter) -> Option<Drift> {
    let actual = match sysctl::read(&setting.key) {
        Ok(printed) if is_same_value(&setting.value, &printed) => return None,
        Ok(printed) => printed,
        // One that can only be written, such as `route/flush`.
        Err(error) if error.errno() == Some(libc::EACCES) => return None,
        Err(error) if error.is_not_found() => "missing".into(),
        Err(error) => format!("unreadable ({error:#})"),
    };
    Some(Drift::new(format!("sysctl {}", setting.key), &setting.value, actual))
}

/// Sets parameters back, the last one first; those that are gone need nothing.
///
/// # Errors
/// The first error; the others are set all the same.
pub fn set_back(parameters: &[(String, String)]) -> Result<()> {
    let mut outcome = Ok(());
    for (key, value) in parameters.iter().rev() {
        match sysctl::write(key, value) {
            Err(error) if error.is_not_found() => {}
            done => outcome = outcome.and(done.map(drop)),
        }
    }
    outcome
}

/// Whether the kernel prints a value that was written like that: it separates numbers by tabs,
/// prints them in decimal digits, and sorts lists of ranges.
pub fn is_same_value(written: &str, printed: &str) -> bool {
    let mut printed = printed.split_whitespace();
    let same =
        written.split_whitespace().all(|word| printed.next().is_some_and(|own| is_same_word(word, own)));
    same && printed.next().is_none()
}

fn is_same_word(written: &str, printed: &str) -> bool {
    written == printed
        || number(written).is_some_and(|value| number(printed) == Some(value))
        || ranges(written).is_some_and(|value| ranges(printed) == Some(value))
}

/// A number as the kernel reads it (strtoul_lenient with base 0, kernel/sysctl.c).
fn number(word: &str) -> Option<i128> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    let (radix, digits) = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, digits),
        None => (10, digits),
    };
    let is_plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let value = i128::from(u64::from_str_radix(digits, radix).ok().filter(|_| is_plain)?);
    Some(sign * value)
}

/// A list of ranges like `8080,9148-9150` (proc_do_large_bitmap), sorted and joined.
fn ranges(word: &str) -> Option<Vec<(u32, u32)>> {
    let bounds = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let mut all = word.split(',').map(bounds).collect::<Option<Vec<(u32, u32)>>>()?;
    all.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (first, last) in all {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => joined.push((first, last)),
        }
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_compared_as_the_kernel_prints_them() {
        for (written, printed) in [
            ("1", "1"),
            ("1024 65000", "1024\t65000"),
            (" 4096\t87380  6291456 ", "4096\t87380\t6291456"),
            ("0x10", "16"),
            ("010", "8"),
            ("-1", "-1"),
            ("9148,8080-8081,8082", "8080-8082,9148"),
            ("cubic", "cubic"),
            ("", ""),
        ] {
            assert!(is_same_value(written, printed), "{written:?} {printed:?}");
        }
        for (written, printed) in [
            ("1", "0"),
            ("1 2", "1"),
            ("1", "1\t2"),
            ("cubic", "reno"),
            ("8080", "8080-8081"),
            ("", "1"),
            ("+1", "-1"),
        ] {
            assert!(!is_same_value(written, printed), "{written:?} {printed:?}");
        }
    }

    proptest! {
        #[test]
        fn any_two_texts_are_compared_without_panic(a in "[-0-9a-fx, \t]{0,12}", b in "[-0-9a-fx, \t]{0,12}") {
            prop_assert_eq!(is_same_value(&a, &b), is_same_value(&b, &a));
            prop_assert!(is_same_value(&a, &a));
        }
    }
}
