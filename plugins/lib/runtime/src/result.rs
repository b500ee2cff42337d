//! Results, as plugins print them: kept as they are, never through a type that knows only some fields.

use serde_json::{Map, Value};

use crate::ResultFault;
use crate::convert::shape;
use crate::json;
use crate::version::or_oldest;

/// Reads ADD's answer to a request in `asked`. An answer without a version counts as one in the asked version, one
/// with another version keeps it (C-083); `null` is an empty result.
pub(crate) fn read(stdout: &[u8], asked: &str) -> Result<Value, ResultFault> {
    let mut result = match serde_json::from_slice(stdout).map_err(ResultFault::Json)? {
        Value::Object(result) => result,
        Value::Null => Map::new(),
        other => return Err(ResultFault::NotAnObject(json::type_name(&other))),
    };
    let version = match result.get("cniVersion") {
        Some(Value::String(version)) if !version.is_empty() => version.clone(),
        _ => {
            let asked = or_oldest(asked).to_owned();
            result.insert("cniVersion".into(), asked.clone().into());
            asked
        }
    };
    if shape(&version).is_none() {
        return Err(ResultFault::Version(version));
    }
    Ok(result.into())
}
