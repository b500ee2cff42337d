use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{check, child};
use crate::{AddResult, Command, Env, Error, Request};

/// A directory with one plugin, `ipam`: a shell script with its own directory in `$d`.
fn install(script: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam");
    fs::write(&file, format!("#!/bin/sh\nd=${{0%/*}}\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn request(path: &str, stdin: &[u8]) -> Request {
    let env = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_IFNAME", "eth7"),
        ("CNI_ARGS", "IP=10.0.0.9"),
        ("CNI_PATH", path),
    ];
    Request::parse(&Env::from_iter(env), stdin).unwrap()
}

const CONF: &[u8] = b"{ \"name\":\"n\",  \"cniVersion\":\"1.0.0\" , \"x\":[ 1.0 ]}\n";

fn add(dir: &TempDir) -> Result<AddResult, Error> {
    request(dir.path().to_str().unwrap(), CONF).delegate_add("ipam")
}

fn run(dir: &TempDir, command: Command) -> Result<(), Error> {
    request(dir.path().to_str().unwrap(), CONF).delegate("ipam", command)
}

fn written(dir: &TempDir, name: &str) -> String {
    fs::read_to_string(dir.path().join(name)).unwrap_or_default()
}

/// C-080
#[test]
fn a_delegate_is_searched_for_along_the_path() {
    let dir = install("echo '{}'");
    fs::create_dir(dir.path().join("folder")).unwrap();
    let at = dir.path().to_str().unwrap();
    let path = format!("/none:{at}");
    let refusal = |name: &str, path: &str| {
        let error = request(path, CONF).delegate_add(name).unwrap_err();
        assert_eq!(error.code, 999);
        error.msg
    };
    assert!(request(&path, CONF).delegate_add("ipam").is_ok());
    assert_eq!(refusal("", &path), "no plugin name provided");
    assert_eq!(refusal("../ipam", &path), "invalid plugin name: ../ipam");
    assert_eq!(refusal("ipam", ":"), "no paths provided");
    assert_eq!(refusal("other", &path), format!("failed to find plugin \"other\" in path [/none {at}]"));
    for name in ["folder", "..", "a\nb", "\0"] {
        assert!(refusal(name, &path).starts_with("failed to find plugin"));
    }
    // The search ignores the execute bit; running the file fails.
    fs::set_permissions(dir.path().join("ipam"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(refusal("ipam", at), format!("failed to run plugin \"{at}/ipam\": Permission denied"));
}

/// C-081, C-088
#[test]
fn a_delegate_gets_the_request_unchanged() {
    let dir = install("cat > $d/stdin; env > $d/env; echo '{}'");
    run(&dir, Command::Check).unwrap();
    assert_eq!(fs::read(dir.path().join("stdin")).unwrap(), CONF);
    let env = written(&dir, "env");
    let path = format!("CNI_PATH={}", dir.path().display());
    for line in ["CNI_COMMAND=CHECK", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth7", "CNI_ARGS=IP=10.0.0.9", &path]
    {
        assert!(env.lines().any(|l| l == line), "{line} is not in:\n{env}");
    }
    assert!(env.lines().any(|line| line.starts_with("PATH=")), "the rest is inherited");
}

/// C-083: a result that names no version has the configuration's, 1.0.0.
#[test]
fn a_delegates_result_is_read_by_its_own_version() {
    let plain = install(r#"echo '{"ips":[{"address":"10.0.0.2/24"}]}'"#);
    assert_eq!(add(&plain).unwrap().ips.len(), 1);
    let old = install(r#"echo '{"cniVersion":"0.2.0","ip6":{"ip":"fd00::2/64"}}'"#);
    assert!(add(&old).unwrap().ips[0].address.is_ipv6());
}

/// C-084, C-071
#[test]
fn a_delegates_error_is_passed_on_unchanged() {
    let error = |code, msg: &str, details: &str| Error { code, msg: msg.into(), details: details.into() };
    for (script, error) in [
        (r#"echo '{"code":11,"msg":"a \"b\"","details":"d","x":1}'; exit 1"#, error(11, "a \"b\"", "d")),
        (r#"echo noise >&2; echo '{"code":100,"msg":"m"}'; exit 3"#, error(100, "m", "")),
        ("printf 'bad\\n' >&2; exit 2", error(0, "netplugin failed: \"bad\\n\"", "")),
        ("exit 4", error(0, "netplugin failed with no error message: exit status 4", "")),
        ("kill -9 $$", error(0, "netplugin failed with no error message: signal 9", "")),
    ] {
        let dir = install(script);
        assert_eq!(run(&dir, Command::Status).unwrap_err(), error);
        assert_eq!(add(&dir).unwrap_err(), error);
    }
    for stdout in ["oops", "[]", r#"{"code":"x"}"#, r#"{"code":1,"msg":"a"}{"code":2}"#] {
        let dir = install(&format!("echo '{stdout}'; exit 1"));
        let error = run(&dir, Command::Gc).unwrap_err();
        let start = format!("netplugin failed but error parsing its diagnostic message {stdout:?}: ");
        assert_eq!(error.code, 0);
        assert!(error.msg.starts_with(&start), "{}", error.msg);
    }
}

/// C-085: also after an ADD with an unreadable result; the error of DEL is not reported.
#[test]
fn a_failed_add_is_followed_by_del() {
    for answer in [r#"echo '{"code":7,"msg":"no"}'; exit 1"#, "echo '{'", "exit 0"] {
        let script = format!(
            "echo $CNI_COMMAND >> $d/calls; [ $CNI_COMMAND = ADD ] || {{ echo x; exit 9; }}; {answer}"
        );
        let dir = install(&script);
        let error = add(&dir).unwrap_err();
        assert_eq!(written(&dir, "calls"), "ADD\nDEL\n");
        let shown = if error.code == 7 { "no" } else { "failed to parse the result of plugin \"ipam\": " };
        assert!(error.msg.starts_with(shown), "{}", error.msg);
    }
    let dir = install("echo $CNI_COMMAND >> $d/calls; [ $CNI_COMMAND = ADD ] && echo '{}'; exit 0");
    add(&dir).unwrap();
    assert_eq!(written(&dir, "calls"), "ADD\n");
}

/// Both sides write at once, and more than a pipe holds.
#[test]
fn large_input_and_output_do_not_block() {
    let big = |bytes: usize| {
        let mut stdin = CONF[..CONF.len() - 2].to_vec();
        stdin.extend(format!(",\"pad\":\"{}\"}}", "x".repeat(bytes)).into_bytes());
        stdin
    };
    let stdin = big(4 << 20);
    for script in [
        // Writes before it reads.
        "head -c 1000000 /dev/zero | tr '\\0' ' '; cat > $d/stdin; echo '{}'",
        // Reads first, not at all, or only a little.
        "cat > $d/stdin; head -c 1000000 /dev/zero | tr '\\0' ' '; echo '{}'",
        "echo '{}'",
        "head -c 10 >/dev/null; exec <&-; echo '{}'",
    ] {
        let dir = install(script);
        let at = dir.path().to_str().unwrap();
        request(at, &stdin).delegate_add("ipam").unwrap();
        let stdin_read = fs::read(dir.path().join("stdin"));
        assert!(stdin_read.is_err() || stdin_read.unwrap() == stdin);
    }
}

/// C-082: up to a limit; the log of a failure counts only if stdout is empty.
#[test]
fn a_delegates_log_is_passed_on_when_it_succeeds() {
    let log_of = |script: &str| {
        let dir = install(script);
        let env = Env::from_iter([("CNI_PATH", "/none")]);
        let finished =
            child::run(&dir.path().join("ipam"), &env, Command::Add, b"{}", child::LONGEST).unwrap();
        let mut log = Vec::new();
        (check(&finished, "ipam", &mut log).map_err(|error| error.msg), log)
    };
    assert_eq!(log_of("echo '{}'; echo word >&2"), (Ok(()), b"word\n".to_vec()));
    assert_eq!(log_of("echo word >&2; echo '{\"msg\":\"m\"}'; exit 1"), (Err("m".into()), vec![]));
    let (outcome, log) = log_of("head -c 1000000 /dev/zero >&2; cat >/dev/null");
    assert_eq!((outcome, log.len()), (Ok(()), 64 << 10));
}

#[test]
fn a_delegate_with_endless_output_is_killed() {
    let dir = install("[ $CNI_COMMAND = ADD ] || { echo gone > $d/del; exit 0; }; exec cat /dev/zero");
    let error = add(&dir).unwrap_err();
    assert_eq!(error.code, 999);
    assert!(error.msg.ends_with("printed more than 8388608 bytes and was killed"), "{}", error.msg);
    assert_eq!(written(&dir, "del"), "gone\n");
}

/// A daemon that a delegate starts may keep its output open.
#[test]
fn a_delegates_own_children_are_not_waited_for() {
    let dir = install("sleep 20 & echo $! > $d/pid; echo '{\"ips\":[{\"address\":\"10.0.0.2/24\"}]}'");
    let start = Instant::now();
    let result = add(&dir);
    assert!(start.elapsed() < Duration::from_secs(10));
    let pid = written(&dir, "pid");
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
    assert_eq!(result.unwrap().ips.len(), 1);
}

/// Bit 12 of SigIgn is SIGPIPE, which this process ignores.
#[test]
fn a_delegate_does_not_ignore_sigpipe() {
    let dir = install("grep SigIgn /proc/self/status > $d/signals");
    run(&dir, Command::Del).unwrap();
    let line = written(&dir, "signals");
    let mask = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(mask & (1 << 12), 0);
}
