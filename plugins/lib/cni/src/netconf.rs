//! Standard input: the network configuration (C-020..C-024).

use std::io::Read;

use crate::env::is_identifier;
use crate::json::{DecodeError, Json};
use crate::text::quoted;
use crate::{Code, Error};

/// The most bytes of standard input that are read. Configurations take a few hundred; a GC request
/// for a node with 70,000 attachments fits as well.
pub(crate) const LONGEST: usize = 8 << 20;

/// A configuration with a valid name; its version is not checked yet.
#[derive(Debug)]
pub(crate) struct NetConf {
    /// Standard input, byte for byte.
    pub(crate) bytes: Vec<u8>,
    pub(crate) tree: Json,
    pub(crate) name: String,
}

/// Reads standard input to its end, or one byte past the limit (C-023).
pub(crate) fn read(stdin: &mut dyn Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(4096);
    let limit = LONGEST as u64 + 1;
    stdin.take(limit).read_to_end(&mut bytes).map_err(|error| {
        let Error { msg, details, .. } = Error::from(error);
        Error::new(Code::Io, format!("error reading from stdin: {msg}")).details(details)
    })?;
    Ok(bytes)
}

impl NetConf {
    /// C-021, C-022
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Error> {
        if bytes.len() > LONGEST {
            return Err(undecodable(format_args!("larger than {LONGEST} bytes")));
        }
        let tree = Json::parse(&bytes).map_err(undecodable)?;
        let name = match &tree {
            Json::Null => String::new(),
            Json::Object(_) => match tree.get("name") {
                None => String::new(),
                Some(Json::String(name)) => name.clone(),
                Some(other) => return Err(undecodable(wrong("name", other))),
            },
            other => {
                let kind = other.kind();
                return Err(undecodable(format_args!("expected an object, found {kind}")));
            }
        };
        if name.is_empty() {
            return Err(Error::invalid_config("missing network name"));
        }
        if !is_identifier(&name) {
            let details = if name.len() <= 4096 { name } else { quoted(&name) };
            return Err(Error::invalid_config("invalid characters found in network name").details(details));
        }
        Ok(Self { bytes, tree, name })
    }

    /// The text of `cniVersion`; absent and empty mean 0.1.0 (C-024).
    pub(crate) fn version(&self) -> Result<&str, Error> {
        match self.tree.get("cniVersion") {
            None => Ok("0.1.0"),
            Some(Json::String(version)) if version.is_empty() => Ok("0.1.0"),
            Some(Json::String(version)) => Ok(version),
            Some(other) => {
                let why = wrong("cniVersion", other);
                Err(Error::new(Code::Decode, format!("decoding version from network config: {why}")))
            }
        }
    }
}

fn wrong(key: &str, found: &Json) -> DecodeError {
    DecodeError::new(format!("expected a string, found {}", found.kind())).below(key)
}

fn undecodable(why: impl std::fmt::Display) -> Error {
    Error::new(Code::Decode, format!("error unmarshall network config: {why}"))
}
