//! Which files are checked, and what is wrong with them as files (L00x).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Severity, Source};
use crate::files;
use crate::json::{Fault, FaultKind, Node, Reading, Value};
use crate::networks::SIZE_MAX;

use super::report::{File, Form, Report};

/// Reads what a path leads to: a file, or a directory of files.
pub(super) fn path(path: &Path, report: &mut Report) -> Vec<File> {
    if !path.is_dir() {
        return read(path, form(path), report).into_iter().collect();
    }
    directory(path, true, report)
}

/// The files of a directory in the order in which runtimes read them, and those of the directories
/// in it: nerdctl has one for each namespace of containerd, and a list one for more plugins.
fn directory(dir: &Path, is_top: bool, report: &mut Report) -> Vec<File> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()),
        Err(error) => {
            unreadable(dir, &error, report);
            return Vec::new();
        }
    };
    let (dirs, mut paths): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    paths.sort();
    let mut found: Vec<File> = Vec::new();
    for path in paths.iter().filter(|path| !is_hidden(path)) {
        if form(path).is_none() {
            unread_suffix(path, report);
            continue;
        }
        let is_first = is_top && found.is_empty();
        found.extend(read(path, form(path), report).map(|file| File { is_first, ..file }));
    }
    for dir in dirs.iter().filter(|dir| is_top && !is_hidden(dir)) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match found.iter_mut().find(|file| adds_plugins(file) && file.name().is_some_and(|is| is.0 == name)) {
            Some(list) => {
                let parts = parts(dir, report);
                list.parts = parts.len();
                found.extend(parts);
            }
            None => found.extend(directory(dir, false, report)),
        }
    }
    found
}

/// Whether the plugins of a directory of its name are appended.
fn adds_plugins(file: &File) -> bool {
    let only_inlined = file.root.as_ref().and_then(|root| root.member("loadOnlyInlinedPlugins"));
    file.form == Form::List && only_inlined.is_none_or(|member| member.value.value != Value::Bool(true))
}

fn parts(dir: &Path, report: &mut Report) -> Vec<File> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|is| is == "conf")).collect();
    paths.sort();
    paths.iter().filter_map(|path| read(path, Some(Form::Part), report)).collect()
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

/// How the file is read, by its suffix; `None` if by nobody.
fn form(path: &Path) -> Option<Form> {
    match path.extension()?.to_str()? {
        "conflist" => Some(Form::List),
        "conf" | "json" => Some(Form::Single),
        _ => None,
    }
}

/// L006: a file that looks like a network, but has a suffix that no runtime reads.
fn unread_suffix(path: &Path, report: &mut Report) {
    let Ok(bytes) = files::read(path, SIZE_MAX) else { return };
    let is_network = |root: Node| root.member("plugins").or(root.member("type")).is_some();
    if Reading::of(&bytes).root.is_some_and(is_network) {
        report
            .whole(Severity::Warning, "L006", path, "no runtime reads a file with this suffix")
            .fix("rename it to .conflist, or move it away");
    }
}

fn unreadable(path: &Path, error: &std::io::Error, report: &mut Report) {
    report.whole(Severity::Error, "L003", path, format!("cannot be read: {error}"));
    if error.kind() == ErrorKind::PermissionDenied {
        report.denied.push(path.to_owned());
    }
}

/// Reads a file. A file of another suffix that was named is read by its content.
fn read(path: &Path, form: Option<Form>, report: &mut Report) -> Option<File> {
    let bytes = match files::read(path, SIZE_MAX) {
        Ok(bytes) => bytes,
        Err(error) => {
            unreadable(path, &error, report);
            return None;
        }
    };
    writable_by_all(path, report);
    Some(parse(path, form, &bytes, report))
}

/// Reads the text of a file.
pub(super) fn parse(path: &Path, form: Option<Form>, bytes: &[u8], report: &mut Report) -> File {
    let reading = Reading::of(bytes);
    let is_list = reading.root.as_ref().is_some_and(|root| root.member("plugins").is_some());
    let form = form.unwrap_or(if is_list { Form::List } else { Form::Single });
    let source = Source { file: path.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() };
    let file = File { source, form, root: reading.root, parts: 0, is_first: false };
    check(&file, &reading.faults, report);
    file
}

/// L007
fn writable_by_all(path: &Path, report: &mut Report) {
    let mode = fs::metadata(path).map_or(0, |about| about.permissions().mode());
    if mode & 0o002 != 0 {
        let text = "every user can write this file, and root runs the plugins that it names";
        report.whole(Severity::Warning, "L007", path, text).fix("chmod o-w");
    }
}

fn check(file: &File, faults: &[Fault], report: &mut Report) {
    for Fault { kind, span } in faults {
        let text = match kind {
            FaultKind::Unexpected => unexpected(file, span.clone()),
            kind => kind.to_string(),
        };
        report.error("L001", &file.source, span, text).fix_if(kind.fix().map(str::to_owned));
    }
    if let Some(root) = &file.root {
        if file.form == Form::Single
            && let Some(plugins) = root.member("plugins")
        {
            let text = "a list in a file that is read as one plugin: runtimes read lists of *.conflist alone";
            report.error("L002", &file.source, &plugins.span, text).fix("rename the file to .conflist");
        }
        duplicates(file, root, report);
    }
}

/// What was found where JSON goes on.
fn unexpected(file: &File, span: std::ops::Range<usize>) -> String {
    match file.source.text.get(span) {
        Some(found) if !found.is_empty() => {
            let found: String = found.chars().take(20).collect();
            format!("not JSON: {found:?} is not expected here")
        }
        _ => FaultKind::Unexpected.to_string(),
    }
}

/// L005: members of one key. The keys of a map of parameters must differ, which is an error of its
/// plugin.
fn duplicates(file: &File, node: &Node, report: &mut Report) {
    let mut seen = std::collections::HashSet::new();
    for member in node.members() {
        if !seen.insert(member.key.as_str()) {
            let text = format!("two members are called {:?}: the last one counts", shortened(&member.key));
            report.warning("L005", &file.source, &member.span, text).fix("remove one");
        }
        duplicates(file, &member.value, report);
    }
    node.items().iter().for_each(|item| duplicates(file, item, report));
}

/// A key for a sentence.
pub(super) fn shortened(key: &str) -> String {
    cni::shortened(key)
}
