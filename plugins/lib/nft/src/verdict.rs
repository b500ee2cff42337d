//! Verdicts, and the two forms of data (NFTA_DATA_*): a value or a verdict.

use std::fmt;

use netlink::attr::{Attr, Malformed, Writer};

use super::uapi::{
    NF_ACCEPT, NF_DROP, NFT_GOTO, NFT_JUMP, NFT_RETURN, NFTA_DATA_VALUE, NFTA_DATA_VERDICT,
    NFTA_VERDICT_CHAIN, NFTA_VERDICT_CODE,
};

/// The fate of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Ends this base chain and accepts the packet in it.
    Accept,
    /// Drops the packet.
    Drop,
    /// Returns to the chain that jumped here.
    Return,
    /// Jumps to another chain of the table, which returns here.
    Jump(String),
    /// Continues in another chain of the table, which returns to this chain's caller.
    Goto(String),
}

impl Verdict {
    /// Writes it as data in the attribute `kind`.
    pub(super) fn write(&self, writer: &mut Writer, kind: u16) {
        let (code, chain) = match self {
            Self::Accept => (NF_ACCEPT, None),
            Self::Drop => (NF_DROP, None),
            Self::Return => (NFT_RETURN.cast_unsigned(), None),
            Self::Jump(chain) => (NFT_JUMP.cast_unsigned(), Some(chain)),
            Self::Goto(chain) => (NFT_GOTO.cast_unsigned(), Some(chain)),
        };
        writer.nest(kind, |w| {
            w.nest(NFTA_DATA_VERDICT, |w| {
                w.be32(NFTA_VERDICT_CODE, code);
                if let Some(chain) = chain {
                    w.string(NFTA_VERDICT_CHAIN, chain);
                }
            });
        });
    }

    fn read(attr: Attr<'_>) -> Result<Self, Malformed> {
        let mut code = None;
        let mut chain = None;
        for attr in attr.nested() {
            let attr = attr?;
            match attr.kind {
                NFTA_VERDICT_CODE => code = Some(attr.be32()?),
                NFTA_VERDICT_CHAIN => chain = Some(attr.string()),
                _ => {}
            }
        }
        let unknown = Malformed("unknown verdict");
        let code = code.ok_or(unknown)?;
        match (code.cast_signed(), chain) {
            (NFT_RETURN, _) => Ok(Self::Return),
            (NFT_JUMP, Some(chain)) => Ok(Self::Jump(chain)),
            (NFT_GOTO, Some(chain)) => Ok(Self::Goto(chain)),
            _ if code == NF_ACCEPT => Ok(Self::Accept),
            _ if code == NF_DROP => Ok(Self::Drop),
            _ => Err(unknown),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {}", chain.escape_debug()),
            Self::Goto(chain) => write!(f, "goto {}", chain.escape_debug()),
        }
    }
}

/// Data that was read.
#[derive(Debug)]
pub(super) enum Datum<'a> {
    Value(&'a [u8]),
    Verdict(Verdict),
}

impl<'a> Datum<'a> {
    pub(super) fn read(attr: Attr<'a>) -> Result<Self, Malformed> {
        for attr in attr.nested() {
            let attr = attr?;
            match attr.kind {
                NFTA_DATA_VALUE => return Ok(Self::Value(attr.payload)),
                NFTA_DATA_VERDICT => return Verdict::read(attr).map(Self::Verdict),
                _ => {}
            }
        }
        Err(Malformed("data has neither a value nor a verdict"))
    }

    pub(super) fn value(attr: Attr<'a>) -> Result<&'a [u8], Malformed> {
        match Self::read(attr)? {
            Self::Value(bytes) => Ok(bytes),
            Self::Verdict(_) => Err(Malformed("a verdict instead of a value")),
        }
    }
}

/// Writes a value as data in the attribute `kind`.
pub(super) fn write_value(writer: &mut Writer, kind: u16, bytes: &[u8]) {
    writer.nest(kind, |w| w.bytes(NFTA_DATA_VALUE, bytes));
}
