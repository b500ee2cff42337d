//! Domain names in options.

/// RFC 1035, section 2.3.4.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;
/// The two bits of a length that mark a pointer (RFC 1035, section 4.1.4).
const POINTER: u8 = 0xc0;
/// Names that a list may have.
const LIST_MAX: usize = 32;

/// The domain that an option names as text. Only what is a domain name gets into a resolver's
/// configuration: letters, digits, hyphens and underscores in labels.
pub fn of_text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let text = text.trim_end_matches('\0').trim();
    let text = text.strip_suffix('.').unwrap_or(text);
    is_name(text).then(|| text.to_owned())
}

fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=LABEL_MAX).contains(&label.len())
        && label.bytes().all(allowed)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The domains of a list (RFC 3397), as far as it is well-formed; names that are no domain names are
/// left out.
pub fn list(value: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut at = 0;
    while at < value.len() && names.len() < LIST_MAX {
        let Some((name, next)) = read(value, at) else { break };
        if is_name(&name) && !names.contains(&name) {
            names.push(name);
        }
        at = next;
    }
    names
}

/// The name at a position, and the position after it. A pointer leads backwards only, so that it
/// ends.
fn read(value: &[u8], start: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let (mut at, mut next, mut earliest) = (start, None, start);
    loop {
        let length = *value.get(at)?;
        if length & POINTER == POINTER {
            let target = usize::from(u16::from_be_bytes([length & !POINTER, *value.get(at + 1)?]));
            next.get_or_insert(at + 2);
            if target >= earliest {
                return None;
            }
            (at, earliest) = (target, target);
            continue;
        }
        if length & POINTER != 0 {
            return None;
        }
        if length == 0 {
            return Some((name, next.unwrap_or(at + 1)));
        }
        let label = value.get(at + 1..)?.get(..usize::from(length))?;
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(std::str::from_utf8(label).ok()?);
        if name.len() > NAME_MAX {
            return None;
        }
        at += 1 + usize::from(length);
    }
}
