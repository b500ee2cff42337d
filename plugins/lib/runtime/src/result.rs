//! Results as plugins print them. They are never decoded into a struct, which would lose unknown
//! keys.

use serde_json::{Map, Value};

use crate::ResultFault;
use crate::convert::format_of;
use crate::json;
use crate::version::or_oldest;

/// Reads the result of an ADD in version `requested`. A result without a version gets the requested
/// one, one with another version keeps it (C-083); `null` is an empty result.
pub(crate) fn read(stdout: &[u8], requested: &str) -> Result<Value, ResultFault> {
    let mut result = match serde_json::from_slice(stdout).map_err(ResultFault::Json)? {
        Value::Object(result) => result,
        Value::Null => Map::new(),
        other => return Err(ResultFault::NotAnObject(json::type_name(&other))),
    };
    let version = match result.get("cniVersion") {
        Some(Value::String(version)) if !version.is_empty() => version.clone(),
        _ => {
            let requested = or_oldest(requested).to_owned();
            result.insert("cniVersion".into(), requested.clone().into());
            requested
        }
    };
    if format_of(&version).is_none() {
        return Err(ResultFault::Version(version));
    }
    Ok(result.into())
}
