//! Coverage-guided fuzzing of every body: `FUZZ_BODY=NAME fuzz [libFuzzer's arguments]`.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static BODY: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| {
    let body = BODY.get_or_init(|| {
        let name = std::env::var("FUZZ_BODY").unwrap_or_default();
        let names: Vec<&str> = fuzz_bodies::ALL.iter().map(|(name, _)| *name).collect();
        match fuzz_bodies::ALL.iter().find(|(body, _)| *body == name) {
            Some((_, body)) => *body,
            None => panic!("FUZZ_BODY must be one of {names:?}"),
        }
    });
    body(bytes);
});
