//! Text that others chose: their names can hold anything.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with its control characters as `\x1b` or `\u{202e}`, except line breaks; a name from
/// outside cannot move the cursor or reverse the line.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match u32::from(character) {
            _ if !is_unprintable(character) => clean.push(character),
            code @ 0..=0xff => drop(write!(clean, "\\x{code:02x}")),
            code => drop(write!(clean, "\\u{{{code:x}}}")),
        }
    }
    Cow::Owned(clean)
}

fn is_unprintable(character: char) -> bool {
    let reorders =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n') || reorders
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn control_characters_are_escaped_and_line_breaks_stay() {
        assert_eq!(escaped("plain é\n"), "plain é\n");
        assert_eq!(escaped("a\x1b[31mb\x07\u{9b}"), "a\\x1b[31mb\\x07\\x9b");
        assert_eq!(escaped("x\u{202e}y"), "x\\u{202e}y");
    }
}
