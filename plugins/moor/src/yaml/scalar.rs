//! Words: text, and what it means.

/// A word as written.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text, without quotes and with its escapes resolved.
    pub text: String,
    /// It stands without quotes, and so may mean something other than text.
    pub plain: bool,
}

/// What a word means.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// Nothing: `~`, `null`, or no text.
    Null,
    /// `true`, `yes`, `on`, and the opposites.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// Text.
    Text,
}

impl Scalar {
    /// A word in quotes.
    pub fn quoted(text: impl Into<String>) -> Self {
        Self { text: text.into(), plain: false }
    }

    /// What the word means.
    pub fn meaning(&self) -> Meaning {
        if !self.plain {
            return Meaning::Text;
        }
        match self.text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Meaning::Bool(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Meaning::Bool(false),
            ".nan" | ".NaN" | ".NAN" => Meaning::Float(f64::NAN),
            text => number(text).unwrap_or(Meaning::Text),
        }
    }
}

fn number(text: &str) -> Option<Meaning> {
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        let infinite = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
        return Some(Meaning::Float(infinite));
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for a port, a metric or a priority remains text.
        return text.parse().ok().map(Meaning::Int);
    }
    is_decimal(unsigned).then(|| text.parse().ok().map(Meaning::Float)).flatten()
}

fn radix(digits: &str, radix: u32) -> Option<Meaning> {
    let known = digits.chars().all(|digit| digit.is_digit(radix));
    known.then(|| i64::from_str_radix(digits, radix).ok().map(Meaning::Int)).flatten()
}

/// `1.5`, `.5`, `1.`, each with an exponent or without, and `1e3`.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.map(|exponent| exponent.strip_prefix(['-', '+']).unwrap_or(exponent));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Meaning {
        Scalar { text: text.into(), plain: true }.meaning()
    }

    #[test]
    fn words_mean_what_compose_takes_them_for() {
        for (text, means) in [
            ("yes", Meaning::Bool(true)),
            ("Off", Meaning::Bool(false)),
            ("~", Meaning::Null),
            ("", Meaning::Null),
            ("0x1f", Meaning::Int(31)),
            ("0o17", Meaning::Int(15)),
            ("-12", Meaning::Int(-12)),
            ("+7", Meaning::Int(7)),
            ("1.5e3", Meaning::Float(1500.0)),
            ("-.inf", Meaning::Float(f64::NEG_INFINITY)),
            ("8080:80", Meaning::Text),
            ("1_000", Meaning::Text),
            ("e3", Meaning::Text),
            (".", Meaning::Text),
            ("y", Meaning::Text),
        ] {
            assert_eq!(meaning(text), means, "{text:?}");
        }
        assert_eq!(Scalar::quoted("yes").meaning(), Meaning::Text);
    }
}
