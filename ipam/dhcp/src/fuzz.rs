//! For the fuzzer: any bytes from the network.

use crate::frame;
use crate::grant::Grant;
use crate::message::Message;

/// Any frame is a usable offer or nothing, and a usable one is sound.
///
/// # Panics
/// An offer that is used is not sound.
pub fn frame(bytes: &[u8]) {
    let Some((from, bytes)) = frame::decode(bytes) else { return };
    let Some(message) = Message::from_bytes(bytes) else { return };
    if let Ok(grant) = Grant::of(&message, from) {
        assert!(grant.is_sound(), "{grant:?}");
        let result = crate::answer::result(&grant, None, 1500);
        assert!(result.print(cni::Version::NEWEST).is_ok(), "{grant:?}");
    }
}
