//! A queried name, normalized for lookups.

/// RFC 1035, section 2.3.4: the longest name, in bytes of a message.
const WIRE_MAX: usize = 255;
/// The longest label.
const LABEL_MAX: usize = 63;
/// Replaces a dot within a label. No name of ours contains this byte, so such a name is never
/// found.
const INNER_DOT: u8 = 0;

/// A name as lower-case text, with dots between its labels and none at its end; empty for the
/// root. Byte `n` of the text is byte `n + 1` of the name in a message, where a label's length
/// precedes it.
#[derive(Clone)]
pub struct Name {
    text: [u8; WIRE_MAX],
    length: usize,
}

impl Name {
    /// Parses a name without compression pointers; also returns its length in bytes.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut name = Self { text: [0; WIRE_MAX], length: 0 };
        let mut at = 0;
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1;
            if length == 0 {
                return Some((name, at));
            }
            // A name of 255 bytes has a text of 253, without the length of the first
            // label and the root.
            if length > LABEL_MAX || at + length + 1 > WIRE_MAX {
                return None;
            }
            let label = bytes.get(at..at + length)?;
            if at > 1 {
                name.text[at - 2] = b'.';
            }
            for (to, from) in name.text[at - 1..].iter_mut().zip(label) {
                *to = if *from == b'.' { INNER_DOT } else { from.to_ascii_lowercase() };
            }
            at += length;
            name.length = at - 1;
        }
    }

    /// The text.
    pub fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Whether it has exactly one label.
    pub fn is_single(&self) -> bool {
        self.length > 0 && !self.text().contains(&b'.')
    }

    /// The labels before `suffix`, which is not empty: empty if the name is the suffix
    /// itself, `None` if it is not below it.
    pub fn before<'a>(&'a self, suffix: &[u8]) -> Option<&'a [u8]> {
        let head = self.text().strip_suffix(suffix)?;
        if head.is_empty() || suffix.is_empty() { Some(head) } else { head.strip_suffix(b".") }
    }
}
