//! The findings, and the files that they are about.

use std::path::PathBuf;

use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::json::{Node, Span};

/// The most findings of one file; a file in another language has one for each of its keys.
const FOUND_MAX: usize = 100;

/// How a runtime reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A network: a list of plugins.
    List,
    /// A network of one plugin, as `.conf` and `.json` are read.
    Single,
    /// A plugin of a list that has the directory's name.
    Part,
}

/// A file that was read.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// The path, and the text.
    pub source: Source,
    /// How it is read.
    pub form: Form,
    /// The document, when it could be read to its end.
    pub root: Option<Node>,
    /// How many plugins the directory of the list's name adds.
    pub parts: usize,
    /// Whether it is the first file of its directory, which containerd and CRI-O take.
    pub is_first: bool,
}

/// A plugin's object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plugin<'f> {
    /// The object.
    pub node: &'f Node,
    /// Its type.
    pub name: &'f str,
    /// Where the type stands.
    pub span: &'f Span,
    /// The type of its IPAM plugin, and where that stands.
    pub ipam: Option<(&'f str, &'f Span)>,
}

impl File {
    /// The plugins that have a type, in order.
    pub(super) fn plugins(&self) -> Vec<Plugin<'_>> {
        let Some(root) = &self.root else { return Vec::new() };
        match self.form {
            Form::List => {
                let plugins = root.member("plugins").map(|member| member.value.items());
                plugins.into_iter().flatten().filter_map(Plugin::of).collect()
            }
            Form::Single | Form::Part => Plugin::of(root).into_iter().collect(),
        }
    }

    /// The network's name, and where it stands.
    pub(super) fn name(&self) -> Option<(&str, &Span)> {
        let root = self.root.as_ref()?;
        let member = match self.form {
            Form::List => root.member("name")?,
            Form::Single => root.any_case("name")?,
            Form::Part => return None,
        };
        Some((member.value.text()?, &member.value.span))
    }
}

impl<'f> Plugin<'f> {
    fn of(node: &'f Node) -> Option<Self> {
        let of_type = node.any_case("type")?;
        let name = of_type.value.text().filter(|name| !name.is_empty())?;
        let ipam = node.any_case("ipam").and_then(|ipam| ipam.value.any_case("type"));
        let ipam = ipam.and_then(|of_type| Some((of_type.value.text()?, &of_type.value.span)));
        let ipam = ipam.filter(|(name, _)| !name.is_empty());
        Some(Self { node, name, span: &of_type.value.span, ipam })
    }

    /// A boolean that is true.
    pub(super) fn is(&self, key: &str) -> bool {
        self.node.any_case(key).is_some_and(|member| member.value.value == crate::json::Value::Bool(true))
    }

    /// A string that is not empty.
    pub(super) fn text(&self, key: &str) -> Option<&'f str> {
        self.node.any_case(key)?.value.text().filter(|text| !text.is_empty())
    }

    /// Whether there is a value, other than `null`, an empty string and false.
    pub(super) fn has(&self, key: &str) -> bool {
        use crate::json::Value;
        self.node.any_case(key).is_some_and(|member| match &member.value.value {
            Value::Text(text) => !text.is_empty(),
            Value::Bool(value) => *value,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        })
    }

    /// Where a key stands; the plugin's type when it is absent.
    pub(super) fn place(&self, key: &str) -> &'f Span {
        self.node.any_case(key).map_or(self.span, |member| &member.span)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Report {
    found: Vec<Diagnostic>,
    left_out: usize,
    /// Which files could not be looked at for want of rights.
    pub denied: Vec<PathBuf>,
}

impl Report {
    /// Adds an error at a place.
    pub(super) fn error(
        &mut self,
        code: &'static str,
        source: &Source,
        span: &Span,
        text: impl Into<String>,
    ) -> Fix<'_> {
        self.add(Severity::Error, code, source, Some(span), text.into())
    }

    /// Adds a warning at a place.
    pub(super) fn warning(
        &mut self,
        code: &'static str,
        source: &Source,
        span: &Span,
        text: impl Into<String>,
    ) -> Fix<'_> {
        self.add(Severity::Warning, code, source, Some(span), text.into())
    }

    /// Adds a finding about a whole file.
    pub(super) fn whole(
        &mut self,
        severity: Severity,
        code: &'static str,
        file: &std::path::Path,
        text: impl Into<String>,
    ) -> Fix<'_> {
        let source = Source { file: file.to_owned(), text: String::new() };
        self.add(severity, code, &source, None, text.into())
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        source: &Source,
        span: Option<&Span>,
        text: String,
    ) -> Fix<'_> {
        if self.found.iter().rev().take_while(|found| found.file == source.file).count() >= FOUND_MAX {
            self.left_out += 1;
            return Fix(None);
        }
        let place = span.map(|span| source.place(span.clone()));
        self.found.push(Diagnostic { severity, code, file: source.file.clone(), place, text, fix: None });
        Fix(self.found.last_mut())
    }

    /// The findings in the order of files and places, and how many are left out.
    pub(super) fn into_found(mut self) -> (Vec<Diagnostic>, usize) {
        let start = |found: &Diagnostic| found.place.as_ref().map_or(0, |place| place.start);
        self.found.sort_by(|one, other| (&one.file, start(one)).cmp(&(&other.file, start(other))));
        (self.found, self.left_out)
    }
}

/// A finding that was added, if there was room.
pub(super) struct Fix<'r>(Option<&'r mut Diagnostic>);

impl Fix<'_> {
    /// How it is mended.
    pub(super) fn fix(self, text: impl Into<String>) {
        if let Some(found) = self.0 {
            found.fix = Some(text.into());
        }
    }

    /// How it is mended, if that is known.
    pub(super) fn fix_if(self, text: Option<String>) {
        if let Some(text) = text {
            self.fix(text);
        }
    }
}
