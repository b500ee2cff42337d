//! The order of releases.

/// Whether a release is newer than another: `1.2.10` than `1.2.9`, and `1.2.3-4-gabcdef0` than
/// `1.2.3-3-g…`.
pub fn is_newer(release: &str, than: &str) -> bool {
    let order = |release: &str| -> Vec<u64> {
        let (release, _commit) = release.split_once("-g").unwrap_or((release, ""));
        release.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
    };
    order(release) > order(than)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D-070: an older plugin does not replace a newer responder.
    #[test]
    fn releases_are_ordered() {
        for (newer, older) in [
            ("1.2.10", "1.2.9"),
            ("2.0.0", "1.9.9"),
            ("0.1.0-4-gabc", "0.1.0"),
            ("0.1.0-10-gabc", "0.1.0-9-gdef"),
        ] {
            assert!(is_newer(newer, older) && !is_newer(older, newer), "{newer} {older}");
        }
        assert!(!is_newer("0.1.0", "0.1.0") && !is_newer("odd", "0.1.0"));
    }
}
