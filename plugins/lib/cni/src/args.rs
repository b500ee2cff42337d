//! `CNI_ARGS`: `K=V;K=V` (C-090, C-091).

use crate::Error;
use crate::text::quoted;

/// Returns the pairs with keys in `known`, in order; keys are case-sensitive.
pub(crate) fn parse(args: &str, known: &[&str]) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    let mut unknown = Vec::new();
    let mut ignore_unknown = false;
    if args.is_empty() {
        return Ok(pairs);
    }
    for pair in args.split(';') {
        let (key, value) = match pair.split_once('=') {
            Some((key, value)) if !value.contains('=') => (key, value),
            _ => return Err(Error::internal(format!("ARGS: invalid pair \"{}\"", quoted(pair)))),
        };
        if key == "IgnoreUnknown" {
            ignore_unknown = parse_bool(value).ok_or_else(|| {
                let pair = quoted(pair);
                Error::internal(format!(
                    "ARGS: error parsing value of pair \"{pair}\": neither true nor false"
                ))
            })?;
        } else if known.contains(&key) {
            pairs.push((key.to_owned(), value.to_owned()));
        } else {
            unknown.push(pair);
        }
    }
    if unknown.is_empty() || ignore_unknown {
        return Ok(pairs);
    }
    let shown: Vec<_> = unknown.iter().take(16).map(|pair| format!("\"{}\"", quoted(pair))).collect();
    Err(Error::internal(format!("ARGS: unknown args [{}]", shown.join(" "))))
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(args: &str) -> Vec<(String, String)> {
        parse(args, &["IP", "MAC"]).unwrap()
    }

    fn refusal(args: &str) -> String {
        let error = parse(args, &["IP", "MAC"]).unwrap_err();
        assert_eq!(error.code, 999);
        error.msg
    }

    /// C-090: an empty value is legal.
    #[test]
    fn pairs_come_in_order() {
        assert_eq!(pairs(""), []);
        let own = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(pairs("MAC=a;IP=b;IP="), [own("MAC", "a"), own("IP", "b"), own("IP", "")]);
    }

    /// C-090
    #[test]
    fn an_element_without_one_equals_sign_is_refused() {
        for (args, pair) in
            [("IP=a=b", "IP=a=b"), ("IP=1;", ""), (";IP=1", ""), ("IP=1;;MAC=2", ""), ("IP", "IP")]
        {
            assert_eq!(refusal(args), format!("ARGS: invalid pair \"{pair}\""));
        }
        assert_eq!(refusal("IgnoreUnknown=1;x"), "ARGS: invalid pair \"x\"");
    }

    /// C-091: keys are case-sensitive; the position of IgnoreUnknown does not matter.
    #[test]
    fn unknown_keys_need_ignore_unknown() {
        assert_eq!(refusal("ip=1"), "ARGS: unknown args [\"ip=1\"]");
        assert_eq!(refusal("a=1;IP=2;b=3"), "ARGS: unknown args [\"a=1\" \"b=3\"]");
        for yes in ["1", "true", "TRUE", "True"] {
            assert_eq!(pairs(&format!("a=1;IP=2;IgnoreUnknown={yes}")).len(), 1);
            assert_eq!(pairs(&format!("IgnoreUnknown={yes};a=1")).len(), 0);
        }
        for no in ["0", "false", "FALSE"] {
            assert_eq!(refusal(&format!("IgnoreUnknown={no};a=1")), "ARGS: unknown args [\"a=1\"]");
        }
        for odd in ["", "yes", "2", "t"] {
            let msg = refusal(&format!("IgnoreUnknown={odd}"));
            assert!(msg.starts_with("ARGS: error parsing value of pair"), "{msg}");
        }
    }

    /// C-094
    #[test]
    fn the_arguments_of_kubernetes_are_accepted() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=0f;K8S_POD_UID=1-2";
        assert_eq!(pairs(args), []);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(args in "[a-zA-Z=;\u{e4}\n]{0,40}") {
            let _ = parse(&args, &["IP"]).is_ok();
        }
    }
}
