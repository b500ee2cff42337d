//! Text from outside, quoted in our messages.

/// The longest text from outside that a message repeats, in bytes.
const LONGEST: usize = 256;

/// Returns `text` for use in a message: control characters escaped, cut at [`LONGEST`].
pub(crate) fn quoted(text: &str) -> String {
    if text.len() <= LONGEST && !text.contains(char::is_control) {
        return text.into();
    }
    let mut out = String::with_capacity(LONGEST + 16);
    for (at, c) in text.char_indices() {
        if at + c.len_utf8() > LONGEST {
            out.push_str("...");
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The beginning of `text`, for an error that quotes a value of the configuration: 64 characters
/// are enough to recognize it.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_and_control_characters_are_escaped() {
        assert_eq!(quoted("a b"), "a b");
        assert_eq!(quoted("a\nb\0"), "a\\nb\\u{0}");
        let long = "ü".repeat(1000);
        let cut = quoted(&long);
        assert!(cut.ends_with("ü...") && cut.len() <= 256 + 3, "{cut}");
    }
}
