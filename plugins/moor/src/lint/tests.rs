//! What each code points at, on the samples of `testdata/tool` (T-060), and that what runtimes take
//! has no error.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// A sample, or a directory of samples: its code, line and column.
const EXPECTED: &[(&str, &str, usize, usize)] = &[
    ("L001-bom.conflist", "L001", 1, 1),
    ("L001-comma.conflist", "L001", 5, 122),
    ("L001-comment.conflist", "L001", 1, 1),
    ("L001-cut.conflist", "L001", 6, 4),
    ("L001-quotes.conflist", "L001", 3, 11),
    ("L001-slashes.conflist", "L001", 5, 123),
    ("L002.conf", "L002", 4, 3),
    ("L004.conf", "L004", 2, 17),
    ("L005.conflist", "L005", 8, 7),
    ("L010-flag.conflist", "L010", 4, 19),
    ("L010.conflist", "L010", 1, 1),
    ("L011-bad.conflist", "L011", 3, 11),
    ("L011-case.conflist", "L011", 3, 3),
    ("L011-type.conflist", "L011", 3, 11),
    ("L011.conflist", "L011", 1, 1),
    ("L012", "L012", 3, 11),
    ("L013-empty.conflist", "L013", 4, 14),
    ("L013-object.conflist", "L013", 4, 14),
    ("L013-single.conflist", "L013", 1, 1),
    ("L013-slip.conflist", "L013", 4, 3),
    ("L013.conflist", "L013", 1, 1),
    ("L014-type.conflist", "L014", 5, 15),
    ("L014.conflist", "L014", 5, 5),
    ("L015-list.conflist", "L015", 4, 28),
    ("L015-type.conflist", "L015", 2, 17),
    ("L015.conflist", "L015", 2, 17),
    ("L016.conflist", "L016", 2, 17),
    ("L017.conflist", "L017", 2, 3),
    ("L018", "L018", 3, 11),
    ("L019.conflist", "L019", 4, 16),
    ("L020-capability.conflist", "L020", 5, 65),
    ("L020-ipam.conflist", "L020", 5, 36),
    ("L020-number.conflist", "L020", 7, 14),
    ("L020-ranges.conflist", "L020", 9, 20),
    ("L020.conflist", "L020", 7, 20),
    ("L021-inner.conflist", "L021", 7, 23),
    ("L021-ipam.conflist", "L021", 9, 49),
    ("L021-list.conflist", "L021", 4, 3),
    ("L021.conflist", "L021", 7, 7),
    ("L022-fraction.conflist", "L022", 7, 14),
    ("L022-word.conflist", "L022", 5, 34),
    ("L022.conflist", "L022", 7, 15),
    ("L023-burst.conflist", "L023", 6, 28),
    ("L023-device.conflist", "L023", 5, 15),
    ("L023-internal.conflist", "L023", 5, 44),
    ("L023-trunk.conflist", "L023", 5, 52),
    ("L023-vlan.conflist", "L023", 5, 15),
    ("L023.conflist", "L023", 8, 7),
    ("L024-missing.conflist", "L024", 5, 35),
    ("L024-other.conflist", "L024", 5, 43),
    ("L024.conflist", "L024", 5, 43),
    ("L026-ipam.conflist", "L026", 5, 25),
    ("L026.conflist", "L026", 7, 7),
    ("L030.conflist", "L030", 5, 15),
    ("L031.conflist", "L031", 6, 15),
    ("L032.conflist", "L032", 6, 15),
    ("L033-dns.conflist", "L033", 6, 15),
    ("L033.conflist", "L033", 6, 15),
    ("L034.conflist", "L034", 5, 25),
    ("L035.conflist", "L035", 5, 25),
    ("L036.conflist", "L036", 6, 66),
    ("L040.conflist", "L040", 9, 33),
    ("L041-empty.conflist", "L041", 9, 63),
    ("L041-range.conflist", "L041", 9, 63),
    ("L041-route.conflist", "L041", 10, 29),
    ("L041-static.conflist", "L041", 5, 80),
    ("L041-text.conflist", "L041", 9, 19),
    ("L041.conflist", "L041", 9, 60),
    ("L041-cluster.conflist", "L041", 10, 20),
    ("L042.conflist", "L042", 11, 24),
    ("L043-cluster.conflist", "L043", 9, 36),
    ("L043.conflist", "L043", 9, 63),
    ("L044", "L044", 5, 64),
    ("L046.conflist", "L046", 9, 33),
    ("L055", "L055", 5, 35),
    ("L056.conflist", "L056", 7, 17),
    ("L071.conflist", "L071", 7, 25),
    ("L071-none.conflist", "L071", 6, 15),
];

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(path)
}

fn context(cni_path: &[&Path]) -> Context {
    Context {
        dirs: Vec::new(),
        cni_path: cni_path.iter().map(|dir| dir.to_path_buf()).collect(),
        cache_dir: "/var/lib/cni".into(),
        json: false,
        colour: false,
        verbose: false,
    }
}

fn offline(path: &Path) -> Vec<Diagnostic> {
    lint(&context(&[]), &[path.to_owned()], false, true).diagnostics
}

fn codes(found: &[Diagnostic]) -> Vec<&'static str> {
    found.iter().map(|found| found.code).collect()
}

/// The files of a directory of `testdata`.
fn files(path: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(testdata(path)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn shown(found: &[Diagnostic]) -> String {
    found.iter().map(|found| found.render(false)).collect()
}

/// T-060.
#[test]
fn each_code_is_found_at_its_line_and_column_and_nothing_else() {
    let mut wrong = String::new();
    for (sample, code, line, column) in EXPECTED {
        let found = offline(&testdata("tool/lint").join(sample));
        let places: Vec<_> = found
            .iter()
            .map(|found| found.place.as_ref().map(|place| (found.code, place.line, place.column)))
            .collect();
        if places != [Some((*code, *line, *column))] {
            wrong += &format!("{sample}: {code} at {line}:{column} is not what is found:\n{}", shown(&found));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let samples = files("tool/lint").len();
    assert_eq!(samples, EXPECTED.len(), "a sample without its expected place");
}

#[test]
fn keys_of_an_ipam_plugin_outside_of_its_section_are_known_where_it_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.conflist");
    let of = |ipam: &str| {
        let plugin = r#"{"type":"bridge","bridge":"br0","cluster":"/etc/moor/other.json","ipam":"#;
        let list = format!(r#"{{"cniVersion":"1.0.0","name":"a","plugins":[{plugin}{ipam}}}]}}"#);
        fs::write(&path, list).unwrap();
        codes(&offline(&path))
    };
    assert_eq!(of(r#"{"type":"cluster","subnets":["10.9.0.0/16"]}"#), [""; 0]);
    assert_eq!(of(r#"{"type":"host-local","subnet":"10.9.0.0/16"}"#), ["L026"]);
}

/// T-010, T-060.
#[test]
fn the_conflists_of_the_tree_are_clean() {
    for file in files("net.d").into_iter().chain(files("tool/create")) {
        let found = offline(&file);
        assert!(found.is_empty(), "{}", shown(&found));
    }
}

/// T-028.
#[test]
fn the_files_of_other_vendors_have_no_false_error() {
    for file in files("tool/foreign") {
        let found = offline(&file);
        let errors = found.iter().any(|found| found.severity == Severity::Error);
        assert!(!errors, "{}", shown(&found));
    }
}

#[test]
fn a_file_of_nobody_is_named_and_so_is_one_that_all_may_write() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let list = fs::read(testdata("net.d/99-loopback.conflist")).unwrap();
    for name in ["10-a.conflist.bak", "20-b.conflist", "notes.txt", ".hidden"] {
        fs::write(dir.path().join(name), if name.contains("txt") { b"text" } else { &list[..] }).unwrap();
    }
    fs::set_permissions(dir.path().join("20-b.conflist"), fs::Permissions::from_mode(0o666)).unwrap();
    let found = offline(dir.path());
    assert_eq!(codes(&found), ["L006", "L007"], "{}", shown(&found));
}

/// (f): whatever the name leads to.
#[test]
fn what_cannot_be_read_is_one_error_and_the_rest_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    nix::unistd::mkfifo(&at("10-pipe.conflist"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink(at("20-loop.conflist"), at("20-loop.conflist")).unwrap();
    fs::write(at("30-huge.conflist"), vec![b' '; 1 << 21]).unwrap();
    fs::write(at("40-bytes.conflist"), b"{\"name\": \"\xff\"}").unwrap();
    fs::write(at("50-deep.conflist"), "[".repeat(1000)).unwrap();
    let found = offline(dir.path());
    assert_eq!(codes(&found), ["L003", "L003", "L003", "L001", "L001"], "{}", shown(&found));
}

#[test]
fn a_plugin_that_is_missing_or_no_executable_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("loopback"), "").unwrap();
    let list = testdata("net.d/99-loopback.conflist");
    let run = |path: &Path| lint(&context(&[path]), std::slice::from_ref(&list), true, false).diagnostics;
    assert_eq!(codes(&run(Path::new("/nonexistent"))), ["L050"]);
    assert_eq!(codes(&run(dir.path())), ["L051"]);
}

#[test]
fn a_plugin_without_the_version_is_named_when_it_is_asked() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let plugin = dir.path().join("loopback");
    let answer = r#"{"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0"]}"#;
    fs::write(&plugin, format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    let list = testdata("net.d/99-loopback.conflist");
    let run = |exec| lint(&context(&[dir.path()]), std::slice::from_ref(&list), exec, false).diagnostics;
    assert_eq!(codes(&run(true)), ["L052"]);
    assert!(run(false).is_empty());
}

#[test]
fn a_key_of_moors_is_named_where_the_reference_is_installed() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge","mtu":"auto","fastPath":true,
        "isGateway":true,"ipMasq":true,"ipam":{"type":"host-local","subnet":"10.70.0.0/24","cooldown":60}}]}"#;
    let list = dir.path().join("a.conflist");
    fs::write(&list, text).unwrap();
    let run = |content: &[u8]| {
        for name in ["bridge", "host-local"] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let found = lint(&context(&[dir.path()]), std::slice::from_ref(&list), false, false).diagnostics;
        codes(&found).into_iter().filter(|code| *code == "L025").count()
    };
    assert_eq!(run(b"github.com/containernetworking/plugins/pkg/ns"), 3);
    assert_eq!(run(b"moor"), 0);
}

/// A subnet that others have, as the host reports it.
#[test]
fn a_subnet_of_the_host_is_named_unless_it_is_the_networks_own() {
    let at = |text: &str| cni::parse_cidr(text).unwrap();
    let (subnet, other) = (at("10.70.0.0/24"), at("10.88.0.0/16"));
    let dir = tempfile::tempdir().unwrap();
    let found = |plugin: &str, link: &str| {
        let text = format!(
            r#"{{"name":"a","plugins":[{{"type":"{plugin}","bridge":"b0","ipam":{{"type":"host-local",
                "ranges":[[{{"subnet":"10.70.0.0/24"}}],[{{"subnet":"10.88.5.0/24"}}]]}}}}]}}"#
        );
        let path = dir.path().join("a.conflist");
        fs::write(&path, text).unwrap();
        let host = Host {
            taken: vec![host::Taken { subnet, link: link.into() }],
            servers: vec!["10.70.0.53".parse().unwrap()],
            defaults: vec![(other, "podman")],
            ..Host::default()
        };
        let mut report = Report::default();
        let files = read::path(&path, &mut report);
        let mut report = Report::default();
        let all: Vec<_> = files
            .iter()
            .flat_map(|file| file.plugins().into_iter().map(move |plugin| (file, plugin)))
            .map(|(file, plugin)| Addresses {
                file,
                subnets: addresses::check(file, &plugin, &mut Report::default()),
                plugin,
            })
            .collect();
        across::taken(&all, &host, &mut report);
        codes(&report.into_found().0)
    };
    assert_eq!(found("bridge", "wg0"), ["L047", "L048", "L045"]);
    assert_eq!(found("bridge", "b0"), ["L048", "L045"]);
    assert_eq!(found("macvlan", "eth0"), ["L045"]);
}

#[test]
fn the_first_file_is_named_when_it_is_broken_or_became_the_pods() {
    let dir = tempfile::tempdir().unwrap();
    let list = fs::read(testdata("net.d/99-loopback.conflist")).unwrap();
    let host = Host { has_pods: true, ..Host::default() };
    let first = |name: &str, content: &[u8]| {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        fs::write(dir.path().join(name), content).unwrap();
        fs::write(dir.path().join("zz-other.conflist"), &list).unwrap();
        let files = read::path(dir.path(), &mut Report::default());
        let mut report = Report::default();
        across::first(&files, |file| !is_loadable(file), &host, &mut report);
        codes(&report.into_found().0)
    };
    assert_eq!(first("10-calico.conflist", &list), [""; 0]);
    assert_eq!(first("moor-front.conflist", &list), ["L060"]);
    assert_eq!(first("10-calico.conflist", b"{"), ["L061"]);
}

/// T-061.
#[test]
fn a_mebibyte_of_anything_is_checked_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.conflist");
    let plugins = |one: &str| {
        format!(r#"{{"name":"a","plugins":[{}]}}"#, vec![one; (1 << 20) / (one.len() + 1) - 40].join(","))
    };
    let inner = |one: &str| plugins("{}").replacen("{}", &format!(r#"{{"type":"bridge",{one}}}"#), 1);
    let ranges = vec![r#"[{"subnet":"10.0.0.0/8"}]"#; 30_000].join(",");
    let members: Vec<String> = (0..60_000).map(|index| format!(r#""isGatewa{index}":1"#)).collect();
    for text in [
        plugins("{}"),
        plugins(r#"{"type":"bridge","isGatway":1,"ipam":{"type":"host-local","subnet":"10.0.0.1/8"}}"#),
        format!(
            r#"{{"name":"a","plugins":[{{"type":"bridge","ipam":{{"type":"host-local","ranges":[{ranges}]}}}}]}}"#
        ),
        format!(r#"{{"name":"a","plugins":[{{"type":"bridge",{}}}]}}"#, members.join(",")),
        inner(&format!(r#""{}":1"#, "k".repeat(1000))),
        "[".repeat(1 << 20),
        "#\n".repeat(1 << 19),
        format!("{{\"{}", "a".repeat((1 << 20) - 2)),
    ] {
        fs::write(&path, &text[..text.len().min(1 << 20)]).unwrap();
        let start = std::time::Instant::now();
        offline(&path);
        let took = start.elapsed();
        // An unoptimized build is allowed ten times as long.
        let limit = if cfg!(debug_assertions) { 10 } else { 1 };
        assert!(took.as_secs() < limit, "{took:?}: {}", &text[..60.min(text.len())]);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 400, failure_persistence: None, ..proptest::prelude::ProptestConfig::default()
    })]

    /// T-061.
    #[test]
    fn what_the_runtime_refuses_is_an_error_and_what_it_takes_is_no_fault_of_the_list(
        which in proptest::sample::select(files("net.d")),
        at in proptest::prelude::any::<proptest::sample::Index>(),
        with in proptest::sample::select(vec!["", "{", "}", "[", "]", "1", "null", "true", "\"\"", ",", ":", "\"x\""]),
        length in 0_usize..12,
    ) {
        let mut text = fs::read_to_string(which).unwrap();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.replace_range(start..end, with);
        agrees_with_the_runtime(text.as_bytes());
    }
}

fn agrees_with_the_runtime(text: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.conflist");
    fs::write(&path, text).unwrap();
    let found = offline(&path);
    let loaded = runtime::Conflist::from_file(&path);
    let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
    match loaded {
        Err(error) => {
            assert!(found.iter().any(|found| is_error(&found)), "{error}: {}", String::from_utf8_lossy(text))
        }
        // ADD refuses bad names, and versions that there are not.
        Ok(_) => {
            let faults: Vec<_> = found
                .iter()
                .filter(is_error)
                .filter(|found| found.code < "L020" && !matches!(found.code, "L011" | "L015"))
                .collect();
            assert!(faults.is_empty(), "{faults:?}: {}", String::from_utf8_lossy(text));
        }
    }
}
