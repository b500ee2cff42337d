//! Results: of IPAM plugins, and of plugins earlier in a list.

use cni::{AddResult, Version};

/// What is read as a result can be said in every version that it is convertible to; and what was said is read as the
/// same again, so nothing is lost twice.
pub fn result(bytes: &[u8]) {
    let Ok(result) = AddResult::parse(bytes, Version::NEWEST) else { return };
    for version in Version::ALL.iter().copied() {
        let printed = result.print(version);
        assert_eq!(printed.is_ok(), result.convertible_to(version).is_ok(), "{version:?}: {result:?}");
        let Ok(printed) = printed else { continue };
        let again = match AddResult::parse(&printed, version) {
            Ok(again) => again,
            Err(error) => panic!("{version:?}: what was printed is not read: {}", error.msg),
        };
        match again.print(version) {
            Ok(text) => assert_eq!(text, printed, "{version:?}"),
            Err(error) => panic!("{version:?}: what was read again cannot be said: {}", error.msg),
        }
    }
}
