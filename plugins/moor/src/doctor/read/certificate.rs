//! When certificates expire: of X.509 (RFC 5280) only what leads to that date.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// Tags of DER (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of the certificate of a PEM file that ends first, in seconds since 1970.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn first_end(pem: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(pem).map_err(|_| "it is no PEM file")?;
    let bodies = text.split(BEGIN).skip(1).map(|rest| rest.split_once(END).map(|(body, _)| body));
    let ends: Vec<i64> = bodies
        .map(|body| {
            let body: String = body.ok_or("a certificate has no end")?.split_whitespace().collect();
            let der = STANDARD.decode(body).map_err(|_| "a certificate is no base64")?;
            end(&der).ok_or("a certificate cannot be read")
        })
        .collect::<Result<_, _>>()?;
    ends.into_iter().min().ok_or_else(|| "there is no certificate in it".into())
}

/// `notAfter` of a certificate.
fn end(der: &[u8]) -> Option<i64> {
    let (certificate, _) = value(der, SEQUENCE)?;
    let (mut fields, _) = value(certificate, SEQUENCE)?;
    if let Some((_, rest)) = value(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = value(fields, SEQUENCE)?;
    let (tag, text, _) = element(element(validity)?.2)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The value of an element with that tag, and what follows it.
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(found, ..)| *found == tag).map(|(_, value, rest)| (value, rest))
}

fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*tag, value, rest))
}

/// `YYMMDDHHMMSSZ`, or with four digits of the year (RFC 5280, section 4.1.2.5).
fn time(tag: u8, text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let mut parts = [0; 5];
    for (part, at) in parts.iter_mut().zip((0..).step_by(2)) {
        *part = rest.get(at..at + 2)?.parse().ok()?;
    }
    let [month, day, hour, minute, second] = parts;
    if rest.len() != 10 || !(1..=12).contains(&month) {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01. Years are counted from March, so that a leap day is a year's last day.
fn days(year: i64, month: i64, day: i64) -> i64 {
    /// From 0000-03-01 to 1970-01-01.
    const DAYS_BEFORE_1970: i64 = 719_468;
    let year = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month_from_march + 2) / 5 + day - 1 - DAYS_BEFORE_1970
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_in_both_forms() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "240229235959Z", 1_709_251_199),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
        ] {
            assert_eq!(time(tag, text), Some(seconds), "{text}");
        }
        for odd in ["", "Z", "7001010000Z", "701301000000Z", "7001010000000Z", "+00101000000Z"] {
            assert_eq!(time(UTC_TIME, odd), None, "{odd}");
        }
        assert_eq!(time(SEQUENCE, "700101000000Z"), None);
    }

    fn der(tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], &length[..], value].concat()
    }

    fn certificate(end: &str, version: bool) -> String {
        let validity =
            der(SEQUENCE, &[der(UTC_TIME, b"200101000000Z"), der(UTC_TIME, end.as_bytes())].concat());
        let version = if version { der(VERSION, &der(2, &[2])) } else { Vec::new() };
        let fields = [version, der(2, &[7]), der(SEQUENCE, &[]), der(SEQUENCE, b"issuer"), validity].concat();
        let body = STANDARD.encode(der(SEQUENCE, &der(SEQUENCE, &fields)));
        format!("{BEGIN}\n{body}\n{END}\n")
    }

    #[test]
    fn of_several_certificates_the_one_that_ends_first_counts() {
        let two =
            format!("# ours\n{}{}", certificate("491231235959Z", true), certificate("240229235959Z", false));
        assert_eq!(first_end(two.as_bytes()), Ok(1_709_251_199));
        for odd in ["", "x", BEGIN, &format!("{BEGIN}\n*\n{END}"), &format!("{BEGIN}\nMIIB\n{END}")] {
            assert!(first_end(odd.as_bytes()).is_err(), "{odd}");
        }
        assert!(first_end(&[0xff, 0xfe]).is_err());
    }
}
