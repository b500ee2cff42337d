//! Namespaces that are mounted and used by nobody.

use std::path::Path;

use crate::model::Model;
use crate::output::Note;

/// Where runtimes mount the namespaces of containers.
const DIRS: [&str; 2] = ["/run/netns", "/var/run/netns"];

/// A note for each, with the command that removes it.
pub fn dead(model: &Model) -> Vec<Note> {
    let namespaces = model.kernel.namespaces.iter().enumerate();
    let used = |at: usize| {
        let mut attachments = model.attachments.iter();
        attachments.any(|one| one.namespace == Some(at) && one.record.is_some())
    };
    let unused = namespaces.filter(|(at, one)| one.pids.is_empty() && one.fault.is_none() && !used(*at));
    let paths = unused.flat_map(|(_, one)| &one.paths).filter(|path| is_of_runtime(path));
    let mut notes: Vec<_> = paths
        .map(|path| {
            let text =
                format!("no process and no record uses this namespace: ip netns delete {}", shown(path));
            Note::about("namespace", path, text)
        })
        .collect();
    notes.dedup();
    if model.is_whole { notes } else { Vec::new() }
}

fn shown(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Whether a runtime made it, by its name: `cni-`, `netns-`, or a UUID.
fn is_of_runtime(path: &Path) -> bool {
    let in_dir = path.parent().is_some_and(|dir| DIRS.iter().any(|known| dir == Path::new(known)));
    let name = shown(path);
    let is_uuid = name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    in_dir && (name.starts_with("cni-") || name.starts_with("netns-") || is_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_runtimes_are_known() {
        let is = |path: &str| is_of_runtime(Path::new(path));
        assert!(is("/run/netns/cni-0f3c1c52-1111-2222-3333-444455556666"));
        assert!(is("/var/run/netns/0f3c1c52-1111-2222-3333-444455556666"));
        assert!(!is("/run/netns/blue") && !is("/run/other/cni-1"));
    }
}
