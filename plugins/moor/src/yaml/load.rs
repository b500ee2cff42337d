//! Loads a document from the parser's events.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::fault::{Fault, Place};
use super::node::{Key, Map, Node, Value};
use super::scalar::Scalar;
use super::{DEPTH_MAX, NODES_MAX, SIZE_MAX};

/// Loads the one document of `bytes`, the file of this number. A file without a document is an
/// empty word.
pub fn load(bytes: &[u8], file: usize) -> Result<Rc<Node>, Fault> {
    let start = Place { file, line: 1, column: 1 };
    if bytes.len() > SIZE_MAX {
        return Err(Fault::new(start, format!("the file is larger than {SIZE_MAX} bytes")));
    }
    let text = text(bytes, file)?;
    let mut loader = Loader { open: Vec::new(), anchors: HashMap::new(), root: None, sum: Weight::ONE };
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| scan_fault(&error, file))?;
        let at = place(span.start, file);
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(Fault::new(at, "a second document in one file is not supported"));
            }
        }
        loader.take(event, at)?;
    }
    let empty = || Node::scalar(start, Scalar { text: String::new(), plain: true });
    Ok(loader.root.unwrap_or_else(empty))
}

/// The text without its byte order mark.
fn text(bytes: &[u8], file: usize) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let (line, column) = end_of(&before);
        Fault::new(Place { file, line, column }, "the text is not UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn end_of(text: &str) -> (usize, usize) {
    let last = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() + 1, last.chars().count() + 1)
}

fn place(mark: Marker, file: usize) -> Place {
    Place { file, line: mark.line().max(1), column: mark.col() + 1 }
}

fn scan_fault(error: &ScanError, file: usize) -> Fault {
    Fault::new(place(*error.marker(), file), error.info())
}

/// What a node weighs with everything below it, each alias counted as what it refers to.
#[derive(Clone, Copy)]
struct Weight {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Weight {
    const ONE: Self = Self { nodes: 1, bytes: 0, height: 0 };
}

/// A list or a map that has not ended.
struct Open {
    at: Place,
    anchor: usize,
    weight: Weight,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map(Entries),
}

/// The entries of a map so far.
#[derive(Default)]
struct Entries {
    own: Vec<(Key, Rc<Node>)>,
    keys: HashSet<Rc<str>>,
    /// The values of `<<`.
    merged: Vec<Rc<Node>>,
    /// The key whose value comes next.
    key: Option<PendingKey>,
}

enum PendingKey {
    Key(Key),
    /// `<<`.
    Merge,
}

struct Loader {
    open: Vec<Open>,
    anchors: HashMap<usize, (Rc<Node>, Weight)>,
    root: Option<Rc<Node>>,
    /// Of everything so far.
    sum: Weight,
}

impl Loader {
    fn take(&mut self, event: Event<'_>, at: Place) -> Result<(), Fault> {
        let tag = match &event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag) => tag,
            _ => &None,
        };
        if let Some(tag) = tag {
            return Err(Fault::new(at, format!("the tag {}{} is not supported", tag.handle, tag.suffix)));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                let weight = Weight { bytes: scalar.text.len(), ..Weight::ONE };
                self.count(weight, at)?;
                self.place_scalar(scalar, anchor, weight, at)
            }
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor) else {
                    return Err(Fault::new(at, "an alias stands inside of what it refers to"));
                };
                let (node, weight) = (Rc::clone(node), *weight);
                self.count(weight, at)?;
                self.put(node, weight, at)
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, Content::Map(Entries::default())),
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    /// Counts what is added to the document, before it is.
    fn count(&mut self, weight: Weight, at: Place) -> Result<(), Fault> {
        self.sum.nodes += weight.nodes;
        self.sum.bytes += weight.bytes;
        if self.sum.nodes > NODES_MAX {
            return Err(Fault::new(at, format!("more than {NODES_MAX} nodes, with aliases expanded")));
        }
        if self.sum.bytes > SIZE_MAX {
            return Err(Fault::new(at, format!("more than {SIZE_MAX} bytes, with aliases expanded")));
        }
        if self.open.len() + weight.height > DEPTH_MAX {
            return Err(Fault::new(at, format!("nested deeper than {DEPTH_MAX}")));
        }
        Ok(())
    }

    fn begin(&mut self, at: Place, anchor: usize, content: Content) -> Result<(), Fault> {
        let weight = Weight { height: 1, ..Weight::ONE };
        self.count(weight, at)?;
        if let Some(Open { content: Content::Map(Entries { key: None, .. }), .. }) = self.open.last() {
            return Err(Fault::new(at, "a key must be a word"));
        }
        self.open.push(Open { at, anchor, weight, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { at, anchor, weight, content }) = self.open.pop() else { return Ok(()) };
        let value = match content {
            Content::List(list) => Value::List(list),
            Content::Map(entries) => Value::Map(entries.finish()?),
        };
        let node = Rc::new(Node { at, value });
        self.keep(anchor, &node, weight);
        self.put(node, weight, at)
    }

    fn keep(&mut self, anchor: usize, node: &Rc<Node>, weight: Weight) {
        if anchor > 0 {
            self.anchors.insert(anchor, (Rc::clone(node), weight));
        }
    }

    /// A word may be a key, and the key `<<` stands for the entries of its value.
    fn place_scalar(
        &mut self,
        scalar: Scalar,
        anchor: usize,
        weight: Weight,
        at: Place,
    ) -> Result<(), Fault> {
        let is_merge = scalar.plain && scalar.text == "<<" && anchor == 0;
        if let Some(Open { content: Content::Map(Entries { key: key @ None, .. }), .. }) =
            self.open.last_mut()
            && is_merge
        {
            *key = Some(PendingKey::Merge);
            return Ok(());
        }
        let node = Node::scalar(at, scalar);
        self.keep(anchor, &node, weight);
        self.put(node, weight, at)
    }

    /// Puts a finished node into what is open.
    fn put(&mut self, node: Rc<Node>, weight: Weight, at: Place) -> Result<(), Fault> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight.nodes += weight.nodes;
        open.weight.bytes += weight.bytes;
        open.weight.height = open.weight.height.max(weight.height + 1);
        match &mut open.content {
            Content::List(list) => list.push(node),
            Content::Map(entries) => entries.put(node, at)?,
        }
        Ok(())
    }
}

impl Entries {
    fn put(&mut self, node: Rc<Node>, at: Place) -> Result<(), Fault> {
        match self.key.take() {
            None => self.key = Some(PendingKey::Key(self.new_key(&node, at)?)),
            Some(PendingKey::Merge) => self.merged.push(node),
            Some(PendingKey::Key(key)) => self.own.push((key, node)),
        }
        Ok(())
    }

    fn new_key(&mut self, node: &Node, at: Place) -> Result<Key, Fault> {
        let Value::Scalar(Scalar { text, .. }) = &node.value else {
            return Err(Fault::new(at, "a key must be a word"));
        };
        let text: Rc<str> = text.as_str().into();
        if text.is_empty() {
            return Err(Fault::new(at, "a key is empty"));
        }
        if !self.keys.insert(Rc::clone(&text)) {
            return Err(Fault::new(at, format!("the key {text:?} is there twice")));
        }
        Ok(Key { at, text })
    }

    /// The own entries, then those of `<<` that no earlier one has.
    fn finish(mut self) -> Result<Map, Fault> {
        for merged in std::mem::take(&mut self.merged) {
            match &merged.value {
                Value::List(list) => list.iter().try_for_each(|node| self.merge(node))?,
                _ => self.merge(&merged)?,
            }
        }
        Ok(Map(self.own))
    }

    fn merge(&mut self, node: &Node) -> Result<(), Fault> {
        let Value::Map(map) = &node.value else {
            return Err(Fault::new(node.at, "only a map, or a list of maps, can be merged by <<"));
        };
        for (key, value) in &map.0 {
            if self.keys.insert(Rc::clone(&key.text)) {
                self.own.push((key.clone(), Rc::clone(value)));
            }
        }
        Ok(())
    }
}
