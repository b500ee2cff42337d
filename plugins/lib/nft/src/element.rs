//! Elements of sets and maps.

use netlink::attr::{Attr, Malformed, Writer};

use super::object::{Data, Set};
use super::uapi::{
    NFT_SET_ELEM_INTERVAL_END, NFTA_LIST_ELEM, NFTA_SET_ELEM_DATA, NFTA_SET_ELEM_FLAGS, NFTA_SET_ELEM_KEY,
    NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_USERDATA, UDATA_COMMENT,
};
use super::udata;
use super::value::{self, Value};
use super::verdict::{Datum, Verdict, write_value};

/// An element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Element {
    /// Its key, or the first key of its range.
    pub key: Value,
    /// The last key of its range. In a concatenation, each part is a range of its own.
    pub end: Option<Value>,
    /// The data that its key maps to.
    pub target: Target,
    /// Its comment, for example its owner: up to [`super::COMMENT_MAX`] bytes.
    pub comment: Option<String>,
}

/// The data of an element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// None: the element of a set.
    None,
    /// A verdict.
    Verdict(Verdict),
    /// A value.
    Value(Value),
    /// A range of values: the first and the last.
    Range(Value, Value),
}

impl Element {
    /// An element of a set with this key; also a key to delete by, whatever its data.
    pub fn new(key: Value) -> Self {
        Self { key, end: None, target: Target::None, comment: None }
    }

    /// An element for a range of keys, both ends included.
    pub fn range(first: Value, last: Value) -> Self {
        Self { key: first, end: Some(last), target: Target::None, comment: None }
    }

    /// Turns it into an element of a map.
    #[must_use]
    pub fn to(self, target: impl Into<Target>) -> Self {
        Self { target: target.into(), ..self }
    }

    /// Adds a comment.
    #[must_use]
    pub fn comment(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    /// Formats it as `nft` does, in a set of these types.
    pub fn show(&self, set: &Set<'_>) -> String {
        let mut text = self.key.show(set.key);
        if let Some(end) = self.end {
            text.push_str(" - ");
            text.push_str(&end.show(set.key));
        }
        text
    }

    /// An upper bound of the bytes that [`Element::write`] writes.
    pub(super) fn size_bound(&self) -> usize {
        let target = match &self.target {
            Target::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.len(),
            _ => 0,
        };
        400 + target + self.comment.as_deref().map_or(0, str::len)
    }

    /// Appends it to a list; with `whole` its data and comment too, otherwise only its key.
    pub(super) fn write(&self, set: &Set<'_>, whole: bool, writer: &mut Writer) -> Result<(), Malformed> {
        let first = self.key.of(set.key)?;
        let last = self.end.as_ref().map_or(Ok(first), |end| end.of(set.key))?;
        if !set.interval && self.end.is_some() {
            return Err(Malformed("a range of keys needs a set of intervals"));
        }
        let mut comment = Vec::new();
        if let Some(text) = &self.comment {
            udata::text(&mut comment, UDATA_COMMENT, text)?;
        }
        let range = match (&self.target, set.data) {
            (Target::None, Data::None) | (Target::Verdict(_), Data::Verdict) => Vec::new(),
            (Target::Value(value), Data::Value(types)) => value.of(types)?.to_vec(),
            (Target::Range(first, last), Data::Range(types)) => {
                // A range is two values, each padded to whole registers.
                let mut bytes = Vec::new();
                for value in [first, last] {
                    bytes.extend_from_slice(value.of(types)?);
                    bytes.resize(bytes.len().next_multiple_of(value::REGISTER), 0);
                }
                bytes
            }
            _ if !whole => Vec::new(),
            _ => return Err(Malformed("an element does not have the data of its set")),
        };
        writer.nest(NFTA_LIST_ELEM, |w| {
            write_value(w, NFTA_SET_ELEM_KEY, first);
            if set.interval && set.key.len() > 1 {
                write_value(w, NFTA_SET_ELEM_KEY_END, last);
            }
            if !whole {
                return;
            }
            match &self.target {
                Target::None => {}
                Target::Verdict(verdict) => verdict.write(w, NFTA_SET_ELEM_DATA),
                Target::Value(_) | Target::Range(..) => write_value(w, NFTA_SET_ELEM_DATA, &range),
            }
            if !comment.is_empty() {
                w.bytes(NFTA_SET_ELEM_USERDATA, &comment);
            }
        });
        // An interval of single keys ends with a separate element, at the first key after it.
        if set.interval
            && set.key.len() == 1
            && let Some(after) = self.end.unwrap_or(self.key).next()
        {
            writer.nest(NFTA_LIST_ELEM, |w| {
                write_value(w, NFTA_SET_ELEM_KEY, after.bytes());
                w.be32(NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            });
        }
        Ok(())
    }

    /// Reads one element of a list; also returns whether it only marks the end of an interval.
    pub(super) fn read(set: &Set<'_>, attr: Attr<'_>) -> Result<(Self, bool), Malformed> {
        let mut key = None;
        let mut end = None;
        let mut target = Target::None;
        let mut comment = None;
        let mut ends = false;
        for attr in attr.nested() {
            let attr = attr?;
            match attr.kind {
                NFTA_SET_ELEM_KEY => key = Some(Value::read(set.key, Datum::value(attr)?)?),
                NFTA_SET_ELEM_KEY_END => end = Some(Value::read(set.key, Datum::value(attr)?)?),
                NFTA_SET_ELEM_DATA => target = Target::read(set.data, attr)?,
                NFTA_SET_ELEM_FLAGS => ends = attr.be32()? & NFT_SET_ELEM_INTERVAL_END != 0,
                NFTA_SET_ELEM_USERDATA => comment = udata::read_text(attr.payload, UDATA_COMMENT),
                _ => {}
            }
        }
        let key = key.ok_or(Malformed("an element has no key"))?;
        Ok((Self { key, end: end.filter(|end| *end != key), target, comment }, ends))
    }

    /// Combines the elements of a set of single keys into intervals: each reaches to the next mark.
    pub(super) fn intervals(mut read: Vec<(Self, bool)>) -> Vec<Self> {
        // An end mark sorts before an element with the same key: one interval ends where the next
        // begins.
        read.sort_by_key(|(element, ends)| (element.key, !ends));
        let mut intervals: Vec<Self> = Vec::with_capacity(read.len() / 2 + 1);
        let mut open = false;
        for (element, ends) in read {
            if open && let (Some(last), Some(before)) = (intervals.last_mut(), element.key.previous()) {
                last.end = Some(before).filter(|end| *end != last.key);
            }
            open = !ends;
            if !ends {
                intervals.push(element);
            }
        }
        if open && let Some(last) = intervals.last_mut() {
            last.end = Some(last.key.last_of_its_length()).filter(|end| *end != last.key);
        }
        intervals
    }
}

impl Target {
    fn read(data: Data, attr: Attr<'_>) -> Result<Self, Malformed> {
        match (data, Datum::read(attr)?) {
            (Data::Verdict, Datum::Verdict(verdict)) => Ok(Self::Verdict(verdict)),
            (Data::Value(types), Datum::Value(bytes)) => Value::read(types, bytes).map(Self::Value),
            (Data::Range(types), Datum::Value(bytes)) => {
                let length = value::length(types);
                let half = bytes.len() / 2;
                let part = |bytes: &[u8]| {
                    Value::read(types, bytes.get(..length).ok_or(Malformed("a range is too short"))?)
                };
                let (first, last) = bytes.split_at_checked(half).ok_or(Malformed("a range is too short"))?;
                Ok(Self::Range(part(first)?, part(last)?))
            }
            _ => Err(Malformed("an element does not have the data of its set")),
        }
    }
}

impl From<Value> for Target {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl From<Verdict> for Target {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

impl From<(Value, Value)> for Target {
    fn from((first, last): (Value, Value)) -> Self {
        Self::Range(first, last)
    }
}
