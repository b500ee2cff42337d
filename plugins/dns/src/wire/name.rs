//! A name as a question has it, made ready to be looked up.

/// RFC 1035, section 2.3.4: the longest name, in bytes of a message.
const WIRE_MAX: usize = 255;
/// Its longest label.
const LABEL_MAX: usize = 63;
/// Stands for a dot within a label: no name of ours holds it, so such a name is never found, and never taken for one
/// with a label more.
const INNER_DOT: u8 = 0;

/// The text of a name, in lower case, with dots between its labels and none at its end; empty for the root. The byte
/// at `n` of the text is at `n + 1` of the name in the message: where a label begins in the text, its length stands
/// in the message.
#[derive(Clone)]
pub struct Name {
    text: [u8; WIRE_MAX],
    length: usize,
}

impl Name {
    /// Reads a name without pointers at the beginning of `bytes`; also gives how many bytes it took.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut name = Self { text: [0; WIRE_MAX], length: 0 };
        let mut at = 0;
        loop {
            let length = usize::from(*bytes.get(at)?);
            at += 1;
            if length == 0 {
                return Some((name, at));
            }
            // The label, its length, and the root's: a name of 255 bytes has a text of 253.
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

    /// Whether it has one label.
    pub fn is_single(&self) -> bool {
        self.length > 0 && !self.text().contains(&b'.')
    }

    /// What stands before `suffix` (not empty): `Some("")` when the name is the suffix itself, `None` when it is
    /// not under it.
    pub fn before<'a>(&'a self, suffix: &[u8]) -> Option<&'a [u8]> {
        let head = self.text().strip_suffix(suffix)?;
        if head.is_empty() || suffix.is_empty() { Some(head) } else { head.strip_suffix(b".") }
    }
}
