//! Running plugins: C-080, C-084, C-087.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use runtime::{ExecError, MAX_OUTPUT, Stream, find_plugin};

use crate::support::{EMPTY, House, attachment, list};

/// C-080, C-135, R-10.
#[test]
fn the_first_regular_file_on_the_path_is_the_plugin() {
    let house = House::new();
    let (one, two) = (house.path("one"), house.path("two"));
    let path = [house.path("missing"), one.clone(), two.clone()];
    fs::create_dir_all(one.join("p")).unwrap();
    house.file("two/p", "");
    assert_eq!(find_plugin("p", &path).unwrap(), two.join("p"));
    symlink(two.join("p"), one.join("link")).unwrap();
    house.file("two/link", "");
    assert_eq!(find_plugin("link", &path).unwrap(), one.join("link"));

    let text = |name: &str, path: &[_]| find_plugin(name, path).unwrap_err().to_string();
    assert_eq!(text("", &path), "no plugin name provided");
    assert_eq!(text("x/y", &path), "invalid plugin name: x/y");
    assert_eq!(text("p", &[]), "no paths provided");
    assert_eq!(text("x", &["/a".into(), "/b".into()]), "failed to find plugin \"x\" in path [/a /b]");
}

/// As from libcni: each variable once.
#[test]
fn a_plugin_sees_the_runtimes_environment_and_all_six_variables() {
    let mut house = House::new();
    house.plugin("p", &format!("env >'{}'\n{EMPTY}", house.path("env").display()));
    house.runtime.env = vec![("EXTRA".into(), "1".into()), ("CNI_IFNAME".into(), "stray".into())];
    house.runtime.cni_path.push("/nonexistent".into());
    let mut attachment = attachment();
    attachment.args = vec![("IgnoreUnknown".into(), "1".into()), ("K".into(), "V".into())];
    house.runtime.add(&list("1.1.0", &["p"]), &attachment).unwrap();

    let call = &house.calls()[0];
    let bin = house.path("bin");
    assert_eq!((call.command.as_str(), call.container_id.as_str()), ("ADD", "c1"));
    assert_eq!((call.netns.as_str(), call.ifname.as_str()), ("/run/netns/c1", "eth0"));
    assert_eq!(call.args, "IgnoreUnknown=1;K=V");
    assert_eq!(call.path, format!("{}:/nonexistent", bin.display()));
    let env = fs::read_to_string(house.path("env")).unwrap();
    let has = |wanted: &str| env.lines().any(|line| line == wanted);
    assert!(has("EXTRA=1") && has(&format!("PATH={}", std::env::var("PATH").unwrap())), "{env}");
    assert_eq!(env.lines().filter(|line| line.starts_with("CNI_IFNAME=")).count(), 1, "{env}");
}

/// For raw protocol cases; the exit status is returned unchanged.
#[test]
fn a_raw_call_sets_only_the_given_variables() {
    let mut house = House::new();
    house.runtime.env = vec![("CNI_NETNS".into(), "stray".into())];
    house.plugin("p", "echo out; echo err >&2; exit 3");
    let env = [("CNI_CONTAINERID", Some("")), ("CNI_PATH", None)];
    let output = house.runtime.exec_plugin("p", "NONSENSE", &env, b"not json").unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    let call = &house.calls()[0];
    assert_eq!((call.command.as_str(), call.container_id.as_str()), ("NONSENSE", ""));
    assert_eq!((call.netns.as_str(), call.path.as_str()), ("unset", "unset"));
    assert_eq!(call.stdin, "not json");
}

/// C-084
#[test]
fn a_failure_keeps_code_message_details_and_both_streams() {
    let house = House::new();
    house.plugin("p", r#"echo log >&2; printf '{"code":11,"msg":"later","details":"d","x":1}'; exit 1"#);
    let error = house.runtime.version("p").unwrap_err();
    assert_eq!(error.to_string(), "later; d");
    let failure = error.failure().unwrap();
    assert_eq!((failure.code, failure.msg.as_str(), failure.details.as_str()), (11, "later", "d"));
    assert_eq!(failure.object.as_ref().unwrap()["x"], 1);
    assert_eq!(error.output().unwrap().stderr, b"log\n");

    house.plugin("p", "echo 'went wrong' >&2; exit 2");
    let error = house.runtime.version("p").unwrap_err();
    assert_eq!(error.to_string(), r#"netplugin failed: "went wrong\n": exit status 2"#);
    assert_eq!(error.failure().unwrap().code, 0);

    house.plugin("p", "kill -TERM $$");
    let error = house.runtime.version("p").unwrap_err().to_string();
    assert_eq!(error, "netplugin failed with no error message: signal: terminated");
}

/// R-1: SIGKILL when the time is up; the text begins like libcni's. A process that the plugin has
/// started keeps running with the pipes open, and is not waited for.
#[test]
fn a_plugin_that_runs_too_long_is_killed() {
    let mut house = House::new();
    // Long enough for a shell to start on a busy machine.
    house.runtime.timeout = Duration::from_secs(3);
    let pid = house.path("pid");
    house.plugin("p", &format!("sleep 20 & echo $! >'{}'; echo half; wait", pid.display()));
    let begin = Instant::now();
    let error = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(
        error.to_string().starts_with("netplugin failed with no error message: signal: killed"),
        "{error}"
    );
    let ExecError::TimedOut { output, .. } = error else { panic!("{error}") };
    assert_eq!(output.stdout, b"half\n");
    let pid = nix::unistd::Pid::from_raw(fs::read_to_string(pid).unwrap().trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// The plugins of a list share its time, like those of one context in libcni.
#[test]
fn a_plugin_is_not_started_when_the_time_is_up() {
    let mut house = House::new();
    house.runtime.timeout = Duration::ZERO;
    house.plugin("p", EMPTY);
    let error = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap_err();
    assert!(matches!(error, ExecError::NoTime { .. }), "{error}");
    assert!(house.calls().is_empty());
}

/// The plugin's child keeps the pipes open: the output is returned at once, and this is reported.
#[test]
fn a_remaining_child_of_the_plugin_does_not_delay_the_result() {
    let house = House::new();
    let pid = house.path("pid");
    house.plugin("p", &format!("sleep 20 & echo $! >'{}'; echo done", pid.display()));
    let begin = Instant::now();
    let output = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap();
    assert!(begin.elapsed() < Duration::from_secs(15));
    assert_eq!((output.stdout.as_slice(), output.left_open), (&b"done\n"[..], true));
    let pid = nix::unistd::Pid::from_raw(fs::read_to_string(pid).unwrap().trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();

    house.plugin("p", "echo done");
    assert!(!house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap().left_open);
}

/// Each of the three streams has more than a pipe holds, and the plugin reads its input last.
#[test]
fn no_stream_can_block_another() {
    let house = House::new();
    let megabyte = "head -c 1000000 /dev/zero";
    house.executable("p", &format!("#!/bin/sh\n{megabyte} >&2; {megabyte}; cat | wc -c >&2\n"));
    let stdin = vec![b'x'; 3_000_000];
    let output = house.runtime.exec_plugin("p", "ADD", &[], &stdin).unwrap();
    assert_eq!(output.stdout.len(), 1_000_000);
    let count = String::from_utf8_lossy(&output.stderr[1_000_000..]);
    assert_eq!(count.trim(), "3000000");
}

/// C-020: VERSION never reads standard input; a broken pipe there is not an error.
#[test]
fn a_plugin_need_not_read_its_input() {
    let house = House::new();
    house.executable("p", "#!/bin/sh\nexec 0<&-\necho fine\n");
    let output = house.runtime.exec_plugin("p", "VERSION", &[], &vec![b'x'; 3_000_000]).unwrap();
    assert_eq!(output.stdout, b"fine\n");
}

#[test]
fn a_plugin_with_endless_output_is_killed() {
    let house = House::new();
    for (stream, redirect) in [(Stream::Stdout, ""), (Stream::Stderr, ">&2")] {
        house.executable("p", &format!("#!/bin/sh\nexec cat /dev/zero {redirect}\n"));
        let error = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap_err();
        let ExecError::TooMuchOutput { stream: which, output, .. } = error else { panic!("{error}") };
        assert_eq!(which, stream);
        assert_eq!(output.stdout.len().max(output.stderr.len()), MAX_OUTPUT);
    }
}

/// C-080: the search ignores the executable bit.
#[test]
fn a_plugin_that_cannot_be_started_is_an_error_with_its_path() {
    let house = House::new();
    let path = house.file("bin/p", "#!/bin/sh\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let error = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap_err();
    let ExecError::Spawn { program, source } = &error else { panic!("{error}") };
    assert_eq!((program, source.kind()), (&path, std::io::ErrorKind::PermissionDenied));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

/// C-087.
#[test]
fn an_executable_that_is_being_written_is_tried_again_within_the_time() {
    let mut house = House::new();
    house.plugin("p", EMPTY);
    let writer = OpenOptions::new().append(true).open(house.path("bin/p")).unwrap();
    house.runtime.timeout = Duration::from_secs(3);
    let begin = Instant::now();
    let error = house.runtime.exec_plugin("p", "ADD", &[], b"").unwrap_err();
    let ExecError::Spawn { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::ExecutableFileBusy);
    assert!(begin.elapsed() >= Duration::from_secs(1), "a second try comes a second later");
    drop(writer);
    house.runtime.timeout = Duration::from_secs(60);
    assert!(house.runtime.exec_plugin("p", "ADD", &[], b"").is_ok());
}
