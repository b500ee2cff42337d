//! The reader: one pass over the text.

use super::{DEPTH_MAX, Fault, FaultKind, Member, Node, Reading, Span, Value};

/// The most faults that are named: a file in another language has one on every line.
const FAULTS_MAX: usize = 20;

/// Reads a whole document.
pub(super) fn document(bytes: &[u8]) -> Reading {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.valid_up_to();
            let fault = Fault { kind: FaultKind::NotUtf8, span: at..at + 1 };
            return Reading { root: None, faults: vec![fault] };
        }
    };
    let mut reader = Reader { text, at: 0, faults: Vec::new() };
    let root = reader.document().map_err(|fault| reader.note(fault)).ok();
    Reading { root, faults: reader.faults }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    faults: Vec<Fault>,
}

/// An error ends the reading: what follows it could mean anything.
type Read<T> = Result<T, Fault>;

impl Reader<'_> {
    fn document(&mut self) -> Read<Node> {
        if self.text.starts_with('\u{feff}') {
            self.at = '\u{feff}'.len_utf8();
            self.note(Fault { kind: FaultKind::ByteOrderMark, span: 0..self.at });
        }
        self.skip_blanks()?;
        if self.peek().is_none() {
            return Err(self.fault(FaultKind::End("text")));
        }
        let root = self.value(0)?;
        self.skip_blanks()?;
        match self.peek() {
            None => Ok(root),
            Some(_) => {
                self.note(self.fault(FaultKind::TrailingText));
                Ok(root)
            }
        }
    }

    fn value(&mut self, depth: usize) -> Read<Node> {
        self.skip_blanks()?;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => return Err(self.fault(FaultKind::TooDeep)),
            Some(b'{') => Value::Object(self.object(depth + 1)?),
            Some(b'[') => Value::Array(self.array(depth + 1)?),
            Some(b'"') => Value::Text(self.string(b'"')?),
            Some(b'\'') => Value::Text(self.single_quoted()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.fault(FaultKind::End("a value"))),
        };
        Ok(Node { span: start..self.at, value })
    }

    fn object(&mut self, depth: usize) -> Read<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        self.at += 1;
        loop {
            self.skip_blanks()?;
            if self.take(b'}') {
                return Ok(members);
            }
            let start = self.at;
            let key = self.key()?;
            let span = start..self.at;
            self.skip_blanks()?;
            if !self.take(b':') {
                return Err(match self.peek() {
                    None => self.fault(FaultKind::End("an object")),
                    Some(_) => Fault { kind: FaultKind::MissingColon, span },
                });
            }
            let value = self.value(depth)?;
            members.push(Member { key, span, value });
            self.separator(b'}', "an object")?;
        }
    }

    fn array(&mut self, depth: usize) -> Read<Vec<Node>> {
        let mut items = Vec::new();
        self.at += 1;
        loop {
            self.skip_blanks()?;
            if self.take(b']') {
                return Ok(items);
            }
            items.push(self.value(depth)?);
            self.separator(b']', "an array")?;
        }
    }

    /// Reads the comma after a value; before the closing bracket there is none.
    fn separator(&mut self, close: u8, inside: &'static str) -> Read<()> {
        let end = self.at;
        self.skip_blanks()?;
        match self.peek() {
            Some(b',') => {
                let comma = self.at..self.at + 1;
                self.at += 1;
                self.skip_blanks()?;
                if self.peek() == Some(close) {
                    self.note(Fault { kind: FaultKind::TrailingComma, span: comma });
                }
                Ok(())
            }
            Some(byte) if byte == close => Ok(()),
            Some(b'"' | b'\'' | b'{' | b'[') => {
                self.note(Fault { kind: FaultKind::MissingComma, span: end..end });
                Ok(())
            }
            Some(_) => Err(self.fault(FaultKind::Unexpected)),
            None => Err(self.fault(FaultKind::End(inside))),
        }
    }

    fn key(&mut self) -> Read<String> {
        match self.peek() {
            Some(b'"') => self.string(b'"'),
            Some(b'\'') => self.single_quoted(),
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_') => {
                let span = self.word_span();
                let key = self.text[span.clone()].to_owned();
                self.at = span.end;
                self.note(Fault { kind: FaultKind::UnquotedKey, span });
                Ok(key)
            }
            Some(_) => Err(self.fault(FaultKind::Unexpected)),
            None => Err(self.fault(FaultKind::End("an object"))),
        }
    }

    fn single_quoted(&mut self) -> Read<String> {
        let start = self.at;
        let text = self.string(b'\'')?;
        self.note(Fault { kind: FaultKind::SingleQuotes, span: start..self.at });
        Ok(text)
    }

    fn string(&mut self, quote: u8) -> Read<String> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let plain = self.at;
            while self.peek().is_some_and(|byte| byte != quote && byte != b'\\' && byte >= 0x20) {
                self.at += 1;
            }
            text += &self.text[plain..self.at];
            match self.peek() {
                Some(byte) if byte == quote => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => text.push(self.escape(quote)?),
                Some(_) => {
                    return Err(Fault { kind: FaultKind::ControlCharacter, span: self.at..self.at + 1 });
                }
                None => {
                    let span = start..start + 1;
                    return Err(Fault { kind: FaultKind::End("a string"), span });
                }
            }
        }
    }

    fn escape(&mut self, quote: u8) -> Read<char> {
        let start = self.at;
        self.at += 1;
        let escaped = self.peek();
        self.at += usize::from(escaped.is_some());
        match escaped {
            Some(b'"') => Ok('"'),
            Some(b'\'') if quote == b'\'' => Ok('\''),
            Some(b'\\') => Ok('\\'),
            Some(b'/') => Ok('/'),
            Some(b'b') => Ok('\u{8}'),
            Some(b'f') => Ok('\u{c}'),
            Some(b'n') => Ok('\n'),
            Some(b'r') => Ok('\r'),
            Some(b't') => Ok('\t'),
            Some(b'u') => self.code_point(start),
            _ => Err(Fault { kind: FaultKind::Escape, span: start..start + 1 }),
        }
    }

    /// Reads what follows `\u`; a character above U+FFFF is written as two surrogates.
    fn code_point(&mut self, start: usize) -> Read<char> {
        let fault = Fault { kind: FaultKind::Escape, span: start..start + 2 };
        let first = self.hex().ok_or_else(|| fault.clone())?;
        let code = match first {
            0xd800..=0xdbff if self.take(b'\\') && self.take(b'u') => {
                let second = self.hex().filter(|code| (0xdc00..=0xdfff).contains(code));
                0x1_0000 + ((first - 0xd800) << 10) + (second.ok_or_else(|| fault.clone())? - 0xdc00)
            }
            code => code,
        };
        char::from_u32(code).ok_or(fault)
    }

    fn hex(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        let code = u32::from_str_radix(digits, 16).ok()?;
        self.at += 4;
        Some(code)
    }

    fn number(&mut self) -> Read<Value> {
        let rest = &self.text.as_bytes()[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let span = self.at..self.at + length;
        match self.text[span.clone()].parse() {
            Ok(number) => {
                self.at = span.end;
                Ok(Value::Number(number))
            }
            Err(_) => Err(Fault { kind: FaultKind::Number, span }),
        }
    }

    fn word(&mut self) -> Read<Value> {
        let span = self.word_span();
        let value = match &self.text[span.clone()] {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            "" => return Err(self.fault(FaultKind::Unexpected)),
            _ => return Err(Fault { kind: FaultKind::Unexpected, span }),
        };
        self.at = span.end;
        Ok(value)
    }

    fn word_span(&self) -> Span {
        let rest = &self.text.as_bytes()[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
        self.at..self.at + rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len())
    }

    /// Skips white space, and comments, which are faults.
    fn skip_blanks(&mut self) -> Read<()> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'#') => self.comment("\n"),
                Some(b'/') => match self.text.as_bytes().get(self.at + 1) {
                    Some(b'/') => self.comment("\n"),
                    Some(b'*') => self.comment("*/"),
                    _ => return Err(self.fault(FaultKind::Unexpected)),
                },
                _ => return Ok(()),
            }
        }
    }

    fn comment(&mut self, end: &str) {
        let start = self.at;
        let line = self.text[start..].find('\n').map_or(self.text.len(), |length| start + length);
        self.at = match self.text[start..].find(end) {
            Some(length) if end == "\n" => start + length,
            Some(length) => start + length + end.len(),
            None => self.text.len(),
        };
        self.note(Fault { kind: FaultKind::Comment, span: start..self.at.min(line) });
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn note(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        }
    }

    /// A fault at the next character.
    fn fault(&self, kind: FaultKind) -> Fault {
        let length = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        Fault { kind, span: self.at..self.at + length }
    }
}
