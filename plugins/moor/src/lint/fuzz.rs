//! What must hold for any file, for the fuzzer and for property tests.

use std::path::Path;

use serde_json::Value;

use crate::json::{FaultKind, Reading};

use super::read;
use super::report::{Form, Report};

/// Any bytes are JSON here exactly when serde_json takes them, but for their depth; and every
/// finding points into the file and can be printed.
pub fn conflist(bytes: &[u8]) {
    let reading = Reading::of(bytes);
    let is_deep = reading.faults.iter().any(|fault| fault.kind == FaultKind::TooDeep);
    let is_json = serde_json::from_slice::<Value>(bytes).is_ok();
    assert!(is_deep || is_json == reading.faults.is_empty(), "{:?}", reading.faults);
    for form in [Form::List, Form::Single, Form::Part] {
        let mut report = Report::default();
        let files = [read::parse(Path::new("any"), Some(form), bytes, &mut report)];
        super::each(&files, None, &mut report);
        let length = files[0].source.text.len();
        for found in report.into_found().0 {
            let place = found.place.as_ref().map_or(0..0, |place| place.start..place.end);
            assert!(place.start <= place.end && place.end <= length, "{found:?}");
            assert!(found.render(false).lines().count() > 1, "{found:?}");
        }
    }
}
