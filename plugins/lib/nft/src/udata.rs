//! User data in nft(8)'s format: runs of (u8 type, u8 length, bytes).

use netlink::attr::Malformed;

use super::uapi::USERDATA_MAX;

/// The longest comment, in bytes: its user data also holds a 2-byte header and a NUL.
pub const COMMENT_MAX: usize = USERDATA_MAX - 3;

/// Appends a string.
pub(super) fn text(udata: &mut Vec<u8>, kind: u8, text: &str) -> Result<(), Malformed> {
    if text.contains('\0') {
        return Err(Malformed("a comment contains a NUL"));
    }
    let length = u8::try_from(text.len() + 1).ok().filter(|_| text.len() <= COMMENT_MAX);
    udata.extend([kind, length.ok_or(Malformed("a comment is longer than 253 bytes"))?]);
    udata.extend_from_slice(text.as_bytes());
    udata.push(0);
    Ok(())
}

/// Appends a number, in host byte order as nft does.
pub(super) fn number(udata: &mut Vec<u8>, kind: u8, number: u32) {
    udata.extend([kind, 4]);
    udata.extend(number.to_ne_bytes());
}

/// Returns the string of this type. Malformed data was written neither by us nor by nft, and has
/// none.
pub(super) fn read_text(mut udata: &[u8], kind: u8) -> Option<String> {
    loop {
        let (&[found, length], rest) = udata.split_first_chunk()?;
        let value = rest.get(..usize::from(length))?;
        if found == kind {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        udata = rest.get(usize::from(length)..)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes that `nft` writes for `comment "own"`.
    #[test]
    fn a_comment_is_a_type_a_length_and_a_text_with_its_nul() {
        let mut udata = Vec::new();
        number(&mut udata, 6, 1);
        text(&mut udata, 0, "own").unwrap();
        assert_eq!(udata.get(6..), Some(&[0, 4, b'o', b'w', b'n', 0][..]));
        assert_eq!(read_text(&udata, 0).as_deref(), Some("own"));
        assert_eq!(read_text(&udata, 7), None);
    }

    #[test]
    fn an_impossible_comment_is_refused() {
        assert!(text(&mut Vec::new(), 0, "a\0b").is_err());
        assert!(text(&mut Vec::new(), 0, &"a".repeat(254)).is_err());
        let mut udata = Vec::new();
        text(&mut udata, 0, &"a".repeat(COMMENT_MAX)).unwrap();
        assert_eq!(udata.len(), USERDATA_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind: u8) {
            let _ = read_text(&bytes, kind);
        }
    }
}
