//! Messages ("Message Protocol").

use crate::error::Fault;
use crate::wire::{Reader, Writer};

/// The part of every message before its header's fields.
pub const HEAD: usize = 16;
/// The longest message that is read, in bytes: firewalld's list of 40,000 sources.
pub const LONGEST: usize = 1 << 20;

const LITTLE_ENDIAN: u8 = b'l';
const BIG_ENDIAN: u8 = b'B';
const VERSION: u8 = 1;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

/// The bus does not start a program to answer the call.
const NO_AUTO_START: u8 = 2;

// The fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// An object of a program on the bus, under one of its interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    /// The program's name.
    pub destination: &'a str,
    /// The object's path.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

/// The call of a method with strings as arguments.
pub fn call(serial: u32, object: &Object<'_>, member: &str, arguments: &[&str]) -> Vec<u8> {
    let mut body = Writer::default();
    arguments.iter().for_each(|argument| body.text(argument));
    let mut fields = Writer::default();
    let mut field = |code: u8, signature: &str, value: &str| {
        fields.align(8);
        fields.bytes.push(code);
        fields.signature(signature);
        if signature == "g" { fields.signature(value) } else { fields.text(value) }
    };
    field(PATH, "o", object.path);
    field(INTERFACE, "s", object.interface);
    field(MEMBER, "s", member);
    field(DESTINATION, "s", object.destination);
    if !arguments.is_empty() {
        field(SIGNATURE, "g", &"s".repeat(arguments.len()));
    }
    let mut message = Writer::default();
    message.bytes.extend([LITTLE_ENDIAN, METHOD_CALL, NO_AUTO_START, VERSION]);
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    message.number(length(&body.bytes));
    message.number(serial);
    message.number(length(&fields.bytes));
    message.bytes.append(&mut fields.bytes);
    message.align(8);
    message.bytes.append(&mut body.bytes);
    message.bytes
}

/// The length of the message that begins with these bytes, in bytes: at most [`LONGEST`].
///
/// # Errors
/// No message begins so.
pub fn length(head: &[u8; HEAD]) -> Result<usize, Fault> {
    let mut reader = Reader::new(head, is_big_endian(head[0])?);
    reader.take(3)?;
    if reader.byte()? != VERSION {
        return Err(Fault::Header);
    }
    let body = reader.number()?;
    reader.number()?;
    let fields = reader.number()?;
    let bytes = |number: u32| usize::try_from(number).ok().filter(|number| *number <= LONGEST);
    let (body, fields) = bytes(body).zip(bytes(fields)).ok_or(Fault::Long)?;
    let length = (HEAD + fields).next_multiple_of(8) + body;
    if length > LONGEST { Err(Fault::Long) } else { Ok(length) }
}

fn is_big_endian(first: u8) -> Result<bool, Fault> {
    match first {
        LITTLE_ENDIAN => Ok(false),
        BIG_ENDIAN => Ok(true),
        _ => Err(Fault::Header),
    }
}

/// What a message is.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The answer to the call of this serial.
    Returned(u32, Value),
    /// The failure of that call.
    Failed {
        /// The call's serial.
        call: u32,
        /// The error's name.
        name: String,
        /// Its text.
        text: String,
    },
    /// A signal, or a call: nothing here has objects.
    Other,
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Value {
    /// No value.
    Nothing,
    /// A string.
    Text(String),
    /// A boolean.
    Truth(bool),
    /// An array of strings.
    Texts(Vec<String>),
    /// Another type.
    Other,
}

/// Reads a whole message.
///
/// # Errors
/// It is malformed.
pub fn read(bytes: &[u8]) -> Result<Message, Fault> {
    let head: &[u8; HEAD] = bytes.first_chunk().ok_or(Fault::Short)?;
    if length(head)? != bytes.len() {
        return Err(Fault::Short);
    }
    let big_endian = is_big_endian(head[0])?;
    let mut reader = Reader::new(bytes, big_endian);
    let kind = reader.take(2)?.last().copied().unwrap_or_default();
    reader.take(HEAD - 2 - 4)?;
    let end = reader.length()? + HEAD;
    let (mut call, mut name, mut signature) = (None, None, "");
    while reader.at() < end {
        reader.align(8)?;
        let code = reader.byte()?;
        let of = reader.signature()?;
        match (code, of) {
            (REPLY_SERIAL, "u") => call = Some(reader.number()?),
            (ERROR_NAME, "s") => name = Some(reader.text()?),
            (SIGNATURE, "g") => signature = reader.signature()?,
            _ => reader.skip(of)?,
        }
        if reader.at() > end {
            return Err(Fault::Header);
        }
    }
    reader.align(8)?;
    let body = bytes.get(reader.at()..).unwrap_or_default();
    let value = || value(signature, Reader::new(body, big_endian));
    match (kind, call, name) {
        (METHOD_RETURN, Some(call), _) => Ok(Message::Returned(call, value()?)),
        (ERROR, Some(call), Some(name)) => {
            // The text is the first of any arguments.
            let text = match signature.starts_with('s') {
                true => Reader::new(body, big_endian).text()?,
                false => "",
            };
            Ok(Message::Failed { call, name: name.to_owned(), text: text.to_owned() })
        }
        (METHOD_RETURN | ERROR, ..) => Err(Fault::Header),
        _ => Ok(Message::Other),
    }
}

fn value(signature: &str, mut body: Reader<'_>) -> Result<Value, Fault> {
    Ok(match signature {
        "" => Value::Nothing,
        "s" => Value::Text(body.text()?.to_owned()),
        "b" => match body.number()? {
            0 => Value::Truth(false),
            1 => Value::Truth(true),
            _ => return Err(Fault::Boolean),
        },
        "as" => {
            let end = body.length()? + body.at();
            let mut texts = Vec::new();
            while body.at() < end {
                texts.push(body.text()?.to_owned());
            }
            if body.at() > end {
                return Err(Fault::Short);
            }
            Value::Texts(texts)
        }
        _ => Value::Other,
    })
}
