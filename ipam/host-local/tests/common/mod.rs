//! The test runs itself again in a mount namespace with an empty `/run`, so that the executables
//! under test never use the machine's.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use sys::testing::in_own_namespaces;

pub const OURS: &str = env!("CARGO_BIN_EXE_host-local");
pub const REFERENCE: &str = "/usr/lib/cni/host-local";

/// Runs `body` in such a namespace. `test` is the name of the calling test.
pub fn inside(test: &str, body: impl FnOnce()) {
    in_own_namespaces(test, &["--mount"], 300, || {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status().unwrap();
        assert!(mounted.success(), "mount: {mounted}");
        body();
    });
}

/// Calls an executable, optionally by another program (`wrapper`).
pub fn call(wrapper: &[&str], program: &str, command: &str, id: &str, conf: &Value) -> Output {
    let mut line: Vec<&str> = wrapper.to_vec();
    line.push(program);
    let mut child = Command::new(line[0])
        .args(&line[1..])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", id), ("CNI_NETNS", "/nowhere")])
        .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/nowhere")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {}: {error}", line[0]));
    // A process that is killed at once does not read its input.
    let _ = child.stdin.take().unwrap().write_all(conf.to_string().as_bytes());
    child.wait_with_output().unwrap()
}

/// A configuration that both suites read.
pub fn conf(data_dir: &Path, subnet: &str) -> Value {
    json!({ "cniVersion": "1.0.0", "name": "net", "type": "x",
        "ipam": { "type": "host-local", "subnet": subnet, "dataDir": data_dir } })
}

/// The address that ADD printed.
pub fn address(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_str(&text).unwrap();
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

/// Content and mode of files, by name.
pub type Listing = BTreeMap<String, (String, u32)>;

/// All files of a directory.
pub fn listing(dir: &Path) -> Listing {
    let Ok(entries) = fs::read_dir(dir) else { return BTreeMap::new() };
    entries
        .map(|entry| {
            let entry = entry.unwrap();
            let content = fs::read_to_string(entry.path()).unwrap_or_else(|error| error.to_string());
            let mode = entry.metadata().unwrap().permissions().mode();
            (entry.file_name().into_string().unwrap(), (content, mode))
        })
        .collect()
}
