//! The administrator's list of parameters that networks may set.
//!
//! Its lines are regular expressions, as the reference reads them. `regex-lite` has the syntax of
//! Go's package but Unicode classes, is small, and takes time in proportion to expression and text,
//! whatever they are: an expression that backtracks would let one line stop every ADD of a host.

use std::path::Path;

use cni::{Error, shortened};
use regex_lite::RegexBuilder;
use sys::file;

use crate::parameter::Parameter;

/// Where it is.
const PATH: &str = "/etc/cni/tuning/allowlist.conf";
/// The longest list, in bytes.
const LONGEST: usize = 64 << 10;
/// The most memory that one expression takes, in bytes: `(a{1000}){1000}` would take more.
const EXPRESSION_MAX: usize = 256 << 10;

/// Refuses a parameter that the list does not allow. Without a list, everything is allowed.
///
/// # Errors
/// The first parameter that no line matches; or the list cannot be read.
pub fn check(parameters: &[Parameter]) -> Result<(), Error> {
    if parameters.is_empty() {
        return Ok(());
    }
    match file::read(Path::new(PATH), LONGEST)? {
        Some(bytes) => check_against(&bytes, parameters),
        None => Ok(()),
    }
}

/// An empty list allows nothing.
fn check_against(list: &[u8], parameters: &[Parameter]) -> Result<(), Error> {
    let text = String::from_utf8_lossy(list);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut refused: Vec<&Parameter> = parameters.iter().collect();
    for line in &lines {
        let expression = RegexBuilder::new(line).size_limit(EXPRESSION_MAX).build().map_err(|why| {
            Error::invalid_config(format!("{PATH}: {:?} is no regular expression", shortened(line)))
                .details(why.to_string())
        })?;
        refused.retain(|parameter| !expression.is_match(&parameter.written));
        if refused.is_empty() {
            return Ok(());
        }
    }
    match refused.first() {
        None => Ok(()),
        Some(Parameter { written, .. }) => Err(Error::invalid_config(format!(
            "Sysctl {written} is not allowed. Only the following sysctls are allowed: [{}]",
            lines.join(" ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, written: &str) -> Result<(), Error> {
        let parameter = Parameter { written: written.into(), key: "net/x".into(), value: "1".into() };
        check_against(list.as_bytes(), &[parameter])
    }

    #[test]
    fn a_line_matches_a_part_of_the_key_as_written() {
        for list in
            ["core", "  ^net.core.somaxconn$ \n", "none\nnet\\.core\\.[a-z]+", "(?i)NET\\.CORE", "\\w+"]
        {
            check(list, "net.core.somaxconn").unwrap();
        }
        for list in ["", "\n \n", "^core", "net/core", "# net.core.somaxconn"] {
            let refused = check(list, "net.core.somaxconn").unwrap_err();
            assert!(refused.msg.starts_with("Sysctl net.core.somaxconn is not allowed."), "{refused:?}");
        }
        let refused = check("^a$\n^b$", "net.x").unwrap_err();
        assert!(refused.msg.ends_with("Only the following sysctls are allowed: [^a$ ^b$]"), "{refused:?}");
    }

    #[test]
    fn an_expression_costs_bounded_time_and_memory() {
        assert!(check("(a{1000}){1000}", "net.x").is_err());
        assert!(check("(", "net.x").unwrap_err().msg.contains("is no regular expression"));
        let slow = format!("net.{}", "a".repeat(200));
        assert!(check("(a*)*(a*)*(a*)*(a*)*(a*)*$b", &slow).is_err());
    }
}
