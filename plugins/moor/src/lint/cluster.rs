//! Networks over many hosts (L07x): the configuration of the host, and who gives addresses.

use std::io::ErrorKind;
use std::path::Path;

use cluster::local::SETTINGS;
use cluster::settings::{Settings, SettingsError};

use crate::diagnostic::{Severity, Source};
use crate::files;
use crate::json::{Node, Reading, Span};

use super::report::{File, Plugin, Report};

/// The largest configuration that is read, in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// Whether a path is the configuration of a host, and no network.
pub(super) fn is_settings(path: &Path) -> bool {
    let is_it = |root: Node| {
        root.member("endpoints").is_some() && root.member("type").or(root.member("plugins")).is_none()
    };
    let is_named = path.file_name().is_some_and(|name| name == "cluster.json");
    is_named && files::read(path, SIZE_MAX).is_ok_and(|bytes| Reading::of(&bytes).root.is_some_and(is_it))
}

/// L070: the configuration of a host.
pub(super) fn settings(path: &Path, report: &mut Report) {
    match files::read(path, SIZE_MAX) {
        Ok(bytes) => {
            if let Err(error) = Settings::parse(path, Some(&bytes)) {
                refused(path, &bytes, error, report);
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => report.denied.push(path.to_owned()),
        Err(error) => {
            let text = format!("cannot be read: {error}");
            report.whole(Severity::Error, "L070", path, text).fix_if(None);
        }
    }
}

fn refused(path: &Path, bytes: &[u8], error: SettingsError, report: &mut Report) {
    let source = Source { file: path.to_owned(), text: String::from_utf8_lossy(bytes).into_owned() };
    let root = Reading::of(bytes).root;
    let place = error.key.as_deref().and_then(|key| Some(root.as_ref()?.member(key)?.span.clone()));
    let place: Option<Span> =
        place.or_else(|| root.as_ref().map(|root| root.span.start..root.span.start + 1));
    let text = match &error.key {
        Some(key) => format!("{key}: {}", error.why),
        None => error.why,
    };
    match place {
        Some(span) => report.error("L070", &source, &span, text).fix_if(None),
        None => report.whole(Severity::Error, "L070", path, text).fix_if(None),
    }
}

/// L071: an overlay's addresses are the cluster's, or two hosts may give one.
pub(super) fn check(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    if plugin.name != "overlay" || plugin.is("foreignIpam") {
        return;
    }
    let (span, text) = match plugin.ipam {
        Some(("cluster", _)) => return,
        Some((name, span)) => (span, format!("{name} does not know what it gives on other hosts")),
        None => (plugin.span, "an overlay needs the IPAM plugin cluster".to_owned()),
    };
    let fix =
        "\"ipam\": {\"type\": \"cluster\", \"subnets\": [...]}; or \"foreignIpam\": true, if you see to it";
    report.error("L071", &file.source, span, text).fix(fix);
}

/// L070: the configurations that lists name, and the usual one, once each.
pub(super) fn of_lists(files: &[File], report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for file in files {
        for plugin in file.plugins() {
            let spans = plugin.name == "overlay" || plugin.ipam.is_some_and(|(name, _)| name == "cluster");
            let path = plugin.text("cluster").unwrap_or(SETTINGS);
            if !spans || seen.contains(&path) {
                continue;
            }
            seen.push(path);
            if Path::new(path).symlink_metadata().is_ok() {
                settings(Path::new(path), report);
            } else if path.starts_with('/') {
                let span = plugin.node.any_case("cluster").map_or(plugin.span, |member| &member.value.span);
                let text = format!("there is no {path}: this host belongs to no cluster");
                report
                    .error("L070", &file.source, span, text)
                    .fix("it names the members of etcd: {\"endpoints\": [\"https://...:2379\"]}");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use std::fs;

    use super::*;

    fn found(name: &str, text: &str) -> Vec<(String, Option<usize>)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        assert!(is_settings(&path), "{text}");
        let mut report = Report::default();
        settings(&path, &mut report);
        let line = |found: crate::diagnostic::Diagnostic| (found.text, found.place.map(|place| place.line));
        report.into_found().0.into_iter().map(line).collect()
    }

    #[test]
    fn a_fault_of_the_configuration_is_shown_at_its_key() {
        let sound = "{\n  \"endpoints\": [\"https://192.0.2.1:2379\"]\n}";
        assert_eq!(found("cluster.json", sound), []);
        let many = "{\n  \"endpoints\": [\"https://192.0.2.1:2379\"],\n  \"port\": 0\n}";
        let [(text, line)] = &found("cluster.json", many)[..] else { panic!("one fault") };
        assert!(text.starts_with("port: ") && *line == Some(3), "{text} {line:?}");
        let unknown = "{\n  \"endpoints\": [\"https://192.0.2.1:2379\"],\n  \"prot\": 1\n}";
        let [(text, line)] = &found("cluster.json", unknown)[..] else { panic!("one fault") };
        assert!(text.contains("prot") && *line == Some(3), "{text} {line:?}");
    }

    #[test]
    fn a_network_of_that_name_is_a_network() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cluster.json");
        fs::write(&path, r#"{"type":"x","endpoints":[]}"#).unwrap();
        assert!(!is_settings(&path) && !is_settings(&dir.path().join("none")));
        fs::write(dir.path().join("other.json"), r#"{"endpoints":[]}"#).unwrap();
        assert!(!is_settings(&dir.path().join("other.json")));
    }
}
