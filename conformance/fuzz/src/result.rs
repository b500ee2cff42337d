//! Results of IPAM plugins, and of earlier plugins in a list.

use cni::{AddResult, Version};

/// A result that can be read can be printed in every version that it is convertible to; and what
/// was printed is read as the same again, so nothing is lost twice.
pub fn result(bytes: &[u8]) {
    let Ok(result) = AddResult::parse(bytes, Version::NEWEST) else { return };
    for version in Version::ALL.iter().copied() {
        let printed = result.print(version);
        assert_eq!(printed.is_ok(), result.convertible_to(version).is_ok(), "{version:?}: {result:?}");
        let Ok(printed) = printed else { continue };
        let again = match AddResult::parse(&printed, version) {
            Ok(again) => again,
            Err(error) => panic!("{version:?}: a printed result cannot be read: {}", error.msg),
        };
        match again.print(version) {
            Ok(text) => assert_eq!(text, printed, "{version:?}"),
            Err(error) => {
                panic!("{version:?}: a result that was read again cannot be printed: {}", error.msg)
            }
        }
    }
}
