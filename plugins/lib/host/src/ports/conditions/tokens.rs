//! Splits a rule into words, as `nft` does.

use super::Fault;

/// The maximum length of a word in an error.
const EXCERPT_MAX: usize = 64;

/// Words and signs, in order. A quoted text is one word; no condition here accepts one that
/// contains a sign or a space.
pub(super) fn tokens<T: AsRef<str>>(words: &[T]) -> Result<Vec<String>, Fault> {
    let mut tokens = Vec::new();
    for word in words {
        let mut rest = word.as_ref().trim_start();
        while let Some(first) = rest.chars().next() {
            let length = match first {
                '"' => {
                    let inside = rest.get(1..).and_then(|inside| inside.split_once('"'));
                    let (name, after) =
                        inside.ok_or_else(|| Fault::Invalid("a quotation mark is alone", excerpt(rest)))?;
                    if name.is_empty() || !name.chars().all(is_plain) {
                        return Err(Fault::Unknown(excerpt(name)));
                    }
                    tokens.push(name.to_owned());
                    rest = after.trim_start();
                    continue;
                }
                '{' | '}' | ',' | '&' => 1,
                '!' | '=' | '<' | '>' => {
                    1 + usize::from(rest.get(1..).is_some_and(|rest| rest.starts_with('=')))
                }
                _ => rest.find(|c| !is_plain(c)).unwrap_or(rest.len()),
            };
            // Neither a word nor a sign: a control character, or the first character of another
            // statement.
            let (token, after) = rest
                .split_at_checked(length)
                .filter(|(token, _)| !token.is_empty())
                .ok_or_else(|| Fault::Unknown(excerpt(rest)))?;
            tokens.push(token.to_owned());
            rest = after.trim_start();
        }
    }
    Ok(tokens)
}

/// Whether a character can be part of a word.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '/' | '-' | '_' | '*' | '@' | '+' | '$' | '~' | '%')
}

/// The beginning of an untrusted word, for an error.
pub(super) fn excerpt(word: &str) -> String {
    word.chars().take(EXCERPT_MAX).collect()
}
