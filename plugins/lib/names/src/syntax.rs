//! Which texts are names.

use std::net::Ipv4Addr;

/// The most names of one container.
pub const NAMES_MAX: usize = 64;
/// The longest name in bytes of text (RFC 1035, section 2.3.4, without the length of the first
/// label and the root).
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// Digits of a container id that are used as a name.
const SHORT_ID: usize = 12;

/// Why a text is not a valid name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The syntax is wrong.
    Syntax(&'static str),
    /// The name has another meaning.
    Reserved(&'static str),
}

impl Invalid {
    /// The reason, as the end of a sentence.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Syntax(why) | Self::Reserved(why) => why,
        }
    }
}

/// Parses a name and converts it to lower case; `suffix` is the domain that must fit behind it.
///
/// # Errors
/// It is not a valid name.
pub fn parse(text: &str, suffix: Option<&str>) -> Result<String, Invalid> {
    // A final dot is allowed.
    let name = check_syntax(text.strip_suffix('.').unwrap_or(text))?;
    if name.len() + suffix.map_or(0, |suffix| suffix.len() + 1) > NAME_MAX {
        return Err(Invalid::Syntax("it is longer than 253 bytes with its domain"));
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(Invalid::Reserved("it means the client itself (RFC 6761)"));
    }
    if is_address(&name) {
        return Err(Invalid::Reserved("it is an address"));
    }
    Ok(name)
}

/// Whether the name may belong to somebody else: it has dots, and is below neither of our
/// suffixes.
pub fn is_external(name: &str, domain: Option<&str>, network: &str) -> bool {
    let below = |suffix: &str| name.strip_suffix(suffix).is_some_and(|head| head.ends_with('.'));
    name.contains('.') && !domain.is_some_and(below) && !below(&network.to_ascii_lowercase())
}

/// Parses a domain and converts it to lower case, without a final dot.
///
/// # Errors
/// It is not a valid name.
pub fn domain(text: &str) -> Result<String, Invalid> {
    check_syntax(text.strip_suffix('.').unwrap_or(text))
}

fn check_syntax(text: &str) -> Result<String, Invalid> {
    if text.len() > NAME_MAX {
        return Err(Invalid::Syntax("it is longer than 253 bytes"));
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err(Invalid::Syntax("a label is empty"));
        }
        if label.len() > LABEL_MAX {
            return Err(Invalid::Syntax("a label is longer than 63 bytes"));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(Invalid::Syntax("a label begins or ends with a hyphen"));
        }
        if !label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            return Err(Invalid::Syntax(
                "only letters, digits, hyphens, underscores and dots are allowed (others as xn--…)",
            ));
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a resolver takes it for an IPv4 address without a query (inet_aton(3): one to four
/// numbers, the last of which fills the remaining bytes).
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
    // from_str_radix accepts a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u64::from_str_radix(digits, radix).ok())?
}

/// The first characters of a container id as a name. Ids are `[A-Za-z0-9][A-Za-z0-9_.-]*`, so
/// few need a change.
pub fn short_id(container: &str) -> String {
    let short = container.get(..SHORT_ID).unwrap_or(container).trim_end_matches(['-', '.']);
    check_syntax(short).unwrap_or_else(|_| {
        let plain: String = short.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        plain.to_ascii_lowercase()
    })
}

/// Removes duplicates. Names are in lower case.
///
/// # Errors
/// The number of names, if it exceeds [`NAMES_MAX`].
pub fn deduplicate(names: Vec<String>) -> Result<Vec<String>, usize> {
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
mod tests;
