//! A kill, or an error of the kernel, at every system call that changes something.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use std::fs;

use common::{CONFLIST, Scene, Tree};

/// System calls that change something, under the names that C libraries use. A `?` is for strace: an
/// architecture may lack it.
const CALLS: [&str; 20] = [
    "?open",
    "openat",
    "?creat",
    "?mkdir",
    "mkdirat",
    "write",
    "pwrite64",
    "writev",
    "?chmod",
    "fchmod",
    "fchmodat",
    "fsync",
    "fdatasync",
    "?link",
    "linkat",
    "?rename",
    "?renameat",
    "renameat2",
    "?unlink",
    "?rmdir",
];
/// Few names, each of which meets something else on the host: another's file, nothing, a link.
const FEW: [&str; 2] = ["--only", "bridge,host-local,static"];

/// One call that changes something: its name, and how often that was called before, and once.
type Point = (String, usize);

/// The calls of a run without a fault, which must succeed.
fn points(scene: &Scene, verb: &str, options: &[&str]) -> Vec<Point> {
    let log = scene.path("strace");
    let traced = format!("trace={},?unlinkat", CALLS.join(","));
    let wrapper = ["strace", "-f", "-o", log.to_str().unwrap(), "-e", &traced];
    let output = scene.call(&wrapper, verb, options);
    assert!(output.status.success(), "is strace installed? {output:?}");
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    let mut points = Vec::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let Some((call, arguments)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('('))
        else {
            continue;
        };
        let count = counts.entry(call.to_owned()).or_default();
        *count += 1;
        // Standard output is written to when a file is there.
        let changes = !call.starts_with("open") || arguments.contains("O_CREAT");
        if changes {
            points.push((call.to_owned(), *count));
        }
    }
    fs::remove_file(&log).unwrap();
    points
}

/// Runs the verb once for each of its calls, with the fault in that call.
fn inject(
    prepare: impl Fn() -> Scene,
    verb: &str,
    options: &[&str],
    fault: &str,
    verify: impl Fn(&Scene, bool, &str),
) {
    let points = points(&prepare(), verb, options);
    assert!(points.len() > 15, "{points:?}");
    for (call, when) in &points {
        let scene = prepare();
        let injection = format!("inject={call}:{fault}:when={when}");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", &injection];
        let output = scene.call(&wrapper, verb, options);
        verify(&scene, output.status.success(), &format!("{verb} {injection}: {output:?}"));
    }
    println!("{verb}, {fault}: {} calls", points.len());
}

/// Every file is as in one of two states, and none is beside them. The conflist is new only when all
/// plugins are.
fn is_old_or_new(found: &Tree, old: &Tree, new: &Tree, what: &str) {
    for name in found.keys().chain(old.keys()).chain(new.keys()) {
        let is = found.get(name);
        assert!(is == old.get(name) || is == new.get(name), "{what}: {name} is {is:?}");
    }
    let conflist = format!("net.d/{CONFLIST}");
    if new.get(&conflist) != old.get(&conflist) && found.get(&conflist) == new.get(&conflist) {
        assert!(found == new, "{what}: {:?}", found.keys());
    }
}

fn installed(options: &[&str]) -> impl Fn() -> Scene {
    move || {
        let scene = Scene::new();
        scene.succeeds("install", options);
        scene
    }
}

/// A newer image, beside what an older one has installed.
fn upgraded(options: &[&str]) -> impl Fn() -> Scene {
    move || {
        let scene = installed(options)();
        scene.release("2");
        scene
    }
}

fn killed_install(prepare: impl Fn() -> Scene, options: &[&str]) {
    let before = Scene::new().host();
    let (old, new) = {
        let scene = prepare();
        let old = scene.host();
        scene.succeeds("install", options);
        (old, scene.host())
    };
    assert_ne!(old, new);
    inject(prepare, "install", options, "signal=KILL", |scene, is_done, what| {
        assert!(!is_done, "{what}");
        is_old_or_new(&scene.host(), &old, &new, what);
        let back = scene.copy();
        back.succeeds("uninstall", &[]);
        assert_eq!(back.host(), before, "{what}, then uninstall");
        assert!(back.is_clean(), "{what}");
        scene.succeeds("install", options);
        assert_eq!(scene.host(), new, "{what}, then install");
        scene.succeeds("uninstall", &[]);
        assert_eq!(scene.host(), before, "{what}, then install and uninstall");
        assert!(scene.is_clean(), "{what}");
    });
}

#[test]
fn a_killed_install_leaves_each_file_old_or_new() {
    killed_install(Scene::new, &FEW);
}

#[test]
fn a_killed_upgrade_leaves_each_file_old_or_new() {
    killed_install(upgraded(&FEW), &FEW);
}

#[test]
fn a_killed_uninstall_is_completed_by_the_next() {
    let before = Scene::new().host();
    let ours = installed(&FEW)().host();
    inject(installed(&FEW), "uninstall", &[], "signal=KILL", |scene, _, what| {
        // The conflist goes before the first plugin.
        is_old_or_new(&scene.host(), &before, &ours, what);
        let again = scene.copy();
        again.succeeds("install", &FEW);
        assert_eq!(again.host(), ours, "{what}, then install");
        for scene in [scene, &again] {
            scene.succeeds("uninstall", &[]);
            assert_eq!(scene.host(), before, "{what}, then uninstall");
            assert!(scene.is_clean(), "{what}");
        }
    });
}

#[test]
fn an_error_of_the_kernel_is_reported_and_leaves_each_file_old_or_new() {
    let before = Scene::new().host();
    let new = installed(&FEW)().host();
    inject(Scene::new, "install", &FEW, "error=ENOSPC", |scene, is_done, what| {
        let found = scene.host();
        is_old_or_new(&found, &before, &new, what);
        assert!(!is_done || found == new, "{what}");
        scene.succeeds("uninstall", &[]);
        assert_eq!(scene.host(), before, "{what}, then uninstall");
    });
}
