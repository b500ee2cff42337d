//! Names of an attachment: where they come from, and which are names at all (RFC 1035, RFC 1123, and the underscore
//! that compose puts into names).

use std::net::Ipv4Addr;

use crate::record::NAMES_MAX;

/// The longest name, in bytes of text (RFC 1035, section 2.3.4, less the lengths of the first label and of the root).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// Digits of a container's id that are a name of it.
const SHORT_ID: usize = 12;

/// Why a text is no name of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It breaks the grammar: what of it.
    Form(&'static str),
    /// It means something else: what.
    Reserved(&'static str),
}

impl Invalid {
    /// What is wrong, as the end of a sentence.
    pub fn why(&self) -> &'static str {
        match self {
            Self::Form(why) | Self::Reserved(why) => why,
        }
    }
}

/// The name in lower case; `suffix` is the domain that it must fit in front of.
///
/// # Errors
/// It is no name.
pub fn checked(text: &str, suffix: Option<&str>) -> Result<String, Invalid> {
    // A dot at its end makes no other name of it.
    let name = grammatical(text.strip_suffix('.').unwrap_or(text))?;
    if name.len() + suffix.map_or(0, |suffix| suffix.len() + 1) > NAME_MAX {
        return Err(Invalid::Form("with its domain it is longer than 253 bytes"));
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(Invalid::Reserved("it means the asker itself (RFC 6761)"));
    }
    if is_address(&name) {
        return Err(Invalid::Reserved("it is an address"));
    }
    Ok(name)
}

/// Whether the name is below somebody else's, as far as we know: it has dots, and is in neither of our suffixes.
pub fn is_of_outside(name: &str, domain: Option<&str>, network: &str) -> bool {
    let below = |suffix: &str| name.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'));
    name.contains('.') && !domain.is_some_and(below) && !below(&network.to_ascii_lowercase())
}

/// A domain in lower case, without the dot at its end.
///
/// # Errors
/// It is none.
pub fn domain(text: &str) -> Result<String, Invalid> {
    grammatical(text.strip_suffix('.').unwrap_or(text))
}

fn grammatical(text: &str) -> Result<String, Invalid> {
    if text.len() > NAME_MAX {
        return Err(Invalid::Form("it is longer than 253 bytes"));
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err(Invalid::Form("a label of it is empty"));
        }
        if label.len() > LABEL_MAX {
            return Err(Invalid::Form("a label of it is longer than 63 bytes"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Invalid::Form("a label of it begins or ends with a hyphen"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(Invalid::Form(
                "only letters, digits, hyphens, underscores and dots make a name (others as xn--…)",
            ));
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a resolver would take it for an IPv4 address, and ask nobody (inet_aton(3): one to four numbers, the last of
/// which fills what is left).
fn is_address(name: &str) -> bool {
    let mut parts: Vec<Option<u64>> = name.split('.').map(number).collect();
    let Some(Some(last)) = parts.pop() else { return false };
    parts.len() < 4
        && parts.iter().all(|part| part.is_some_and(|part| part <= 0xff))
        && u32::try_from(parts.len()).is_ok_and(|before| last <= u64::from(u32::MAX) >> (8 * before))
        || name.parse::<Ipv4Addr>().is_ok()
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // It takes a sign, which is no digit.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// The first characters of a container's id as a name. Ids are `[A-Za-z0-9][A-Za-z0-9_.-]*`, which is nearly one.
pub fn short_id(container: &str) -> String {
    let short = container.get(..SHORT_ID).unwrap_or(container).trim_end_matches(['-', '.']);
    grammatical(short).unwrap_or_else(|_| {
        let plain: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        plain.to_ascii_lowercase()
    })
}

/// Each name once, in order. Names are in lower case.
///
/// # Errors
/// How many there are, when that is more than [`NAMES_MAX`].
pub fn each_once(names: Vec<String>) -> Result<Vec<String>, usize> {
    let mut once: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
        if once.len() > NAMES_MAX {
            return Err(once.len());
        }
    }
    Ok(once)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_runtimes_call_containers_is_a_name() {
        for (text, name) in [
            ("web", "web"),
            ("Web-1", "web-1"),
            ("proj_db_1", "proj_db_1"),
            ("_srv", "_srv"),
            ("example.org", "example.org"),
            ("Web.", "web"),
            ("xn--bcher-kva", "xn--bcher-kva"),
            ("1a", "1a"),
            ("0123456789ab", "0123456789ab"),
            ("999999999999", "999999999999"),
            ("256.1.1.1", "256.1.1.1"),
        ] {
            assert_eq!(checked(text, None).unwrap(), name);
        }
        assert!(checked(&"a".repeat(63), None).is_ok());
        assert!(
            checked(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join("."), None)
                .is_ok()
        );
    }

    /// D-009, and what it must not mean (d.9).
    #[test]
    fn what_is_no_name_is_refused() {
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
        for text in [
            "",
            ".",
            "a..",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a.-b",
            "a b",
            "a,b",
            "a\n10.9.9.9 injected",
            "a\0",
            "ä",
            "a/b",
            "a:b",
            "*",
            &"a".repeat(64),
            &long,
        ] {
            assert!(matches!(checked(text, None), Err(Invalid::Form(_))), "{text:?}");
        }
        for text in
            ["localhost", "LocalHost", "a.localhost", "10.0.0.1", "10.1", "167772161", "0x7f.1", "010.0.0.1"]
        {
            assert!(matches!(checked(text, None), Err(Invalid::Reserved(_))), "{text:?}");
        }
        assert!(checked(&"a".repeat(60), Some(&long[..192])).is_ok());
        assert!(checked(&"a".repeat(61), Some(&long[..192])).is_err());
    }

    /// D-007: there is always one.
    #[test]
    fn a_short_id_is_a_name_of_any_container() {
        for (id, name) in [
            ("0123456789ABcdef", "0123456789ab"),
            ("c1", "c1"),
            ("pod-name--..x", "pod-name"),
            ("a..b", "a__b"),
            ("a.-b", "a__b"),
        ] {
            assert_eq!(short_id(id), name);
        }
    }

    #[test]
    fn a_name_of_the_outside_has_dots_and_none_of_our_suffixes() {
        for (name, outside) in [
            ("web", false),
            ("registry-1.docker.io", true),
            ("web.foo.io", false),
            ("foo.io", true),
            ("web.net", false),
            ("web.xnet", true),
        ] {
            assert_eq!(is_of_outside(name, Some("foo.io"), "Net"), outside, "{name}");
        }
    }

    #[test]
    fn names_are_taken_once() {
        let names = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(each_once(names(&["a", "b", "a"])).unwrap(), names(&["a", "b"]));
        let many: Vec<String> = (0..65).map(|n| format!("n{n}")).collect();
        assert_eq!(each_once(many.clone()).unwrap_err(), 65);
        assert_eq!(each_once(many[..64].to_vec()).unwrap().len(), 64);
    }

    proptest! {
        /// D-009: no text becomes more than one name, or another one.
        #[test]
        fn a_name_is_a_text_of_the_grammar(text in "\\PC{0,80}") {
            if let Ok(name) = checked(&text, None) {
                let same = text.to_ascii_lowercase();
                prop_assert_eq!(&name, same.strip_suffix('.').unwrap_or(&same));
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
            }
        }

        #[test]
        fn a_short_id_is_grammatical(id in "[A-Za-z0-9][A-Za-z0-9_.-]{0,30}") {
            prop_assert!(grammatical(&short_id(&id)).is_ok());
        }
    }
}
