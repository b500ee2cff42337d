//! Values on the wire ("Marshaling (Wire Format)").

use crate::error::Fault;

/// Appends values in little-endian order.
#[derive(Default)]
pub struct Writer {
    /// All that was written.
    pub bytes: Vec<u8>,
}

impl Writer {
    /// Zero bytes up to a multiple of `to`.
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// A number of four bytes.
    pub fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    /// A string. (Nothing that a caller sends is near 4 GiB.)
    pub fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    /// A signature.
    pub fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }
}

/// Reads values in the sender's order of bytes.
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    /// Alignment counts from the first of these bytes.
    pub fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    /// The number of bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Skips to a multiple of `to`.
    pub fn align(&mut self, to: usize) -> Result<(), Fault> {
        let skipped = self.at.next_multiple_of(to) - self.at;
        self.take(skipped).map(drop)
    }

    /// The next bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let end = self.at.checked_add(count).ok_or(Fault::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Fault::Short)?;
        self.at = end;
        Ok(taken)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Fault> {
        self.take(1)?.first().copied().ok_or(Fault::Short)
    }

    /// A number of four bytes.
    pub fn number(&mut self) -> Result<u32, Fault> {
        self.align(4)?;
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| Fault::Short)?;
        Ok(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A length of at most the remaining bytes.
    pub fn length(&mut self) -> Result<usize, Fault> {
        let length = usize::try_from(self.number()?).map_err(|_| Fault::Short)?;
        if length > self.bytes.len() - self.at { Err(Fault::Short) } else { Ok(length) }
    }

    /// A string, or the path of an object.
    pub fn text(&mut self) -> Result<&'a str, Fault> {
        let length = self.length()?;
        self.ended(length)
    }

    /// A signature.
    pub fn signature(&mut self) -> Result<&'a str, Fault> {
        let length = usize::from(self.byte()?);
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Result<&'a str, Fault> {
        let text = self.take(length)?;
        if self.byte()? != 0 || text.contains(&0) {
            return Err(Fault::Text);
        }
        std::str::from_utf8(text).map_err(|_| Fault::Text)
    }

    /// A value of a basic type, which nobody needs.
    pub fn skip(&mut self, signature: &str) -> Result<(), Fault> {
        let bytes = match signature {
            "y" => 1,
            "n" | "q" => 2,
            "b" | "i" | "u" | "h" => 4,
            "x" | "t" | "d" => 8,
            "s" | "o" => return self.text().map(drop),
            "g" => return self.signature().map(drop),
            _ => return Err(Fault::Header),
        };
        self.align(bytes)?;
        self.take(bytes).map(drop)
    }
}
