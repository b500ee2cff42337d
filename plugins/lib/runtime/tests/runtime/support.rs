//! A directory with fake plugins, a cache, and a log of the plugins' calls.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use runtime::{Attachment, Conflist, Runtime};
use serde_json::Value;
use tempfile::TempDir;

/// Prints an empty result of version 1.1.0.
pub const EMPTY: &str = r#"printf '{"cniVersion":"1.1.0"}'"#;
/// Fails with an error that has code, message and details.
pub const FAIL: &str = r#"printf '{"code":107,"msg":"no luck","details":"try again"}'; exit 1"#;

pub struct House {
    root: TempDir,
    pub runtime: Runtime,
}

/// A call of a fake plugin. A variable that was not set is `unset`.
#[derive(Debug, PartialEq)]
pub struct Call {
    pub plugin: String,
    pub command: String,
    pub container_id: String,
    pub netns: String,
    pub args: String,
    pub ifname: String,
    pub path: String,
    pub stdin: String,
}

impl Call {
    pub fn request(&self) -> Value {
        serde_json::from_str(&self.stdin).unwrap()
    }
}

impl House {
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        let mut runtime = Runtime::new(vec![root.path().join("bin")], root.path().join("lib"));
        // The output of the scripts must not mix with the test's.
        runtime.forward_stderr = false;
        Self { root, runtime }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Installs an executable that logs its call and then runs `body`.
    pub fn plugin(&self, name: &str, body: &str) {
        let log = self.path("calls");
        let script = format!(
            "#!/bin/sh\nstdin=$(cat)\n\
             printf '%s|' '{name}' \"${{CNI_COMMAND-unset}}\" \"${{CNI_CONTAINERID-unset}}\" \
             \"${{CNI_NETNS-unset}}\" \"${{CNI_ARGS-unset}}\" \"${{CNI_IFNAME-unset}}\" \"${{CNI_PATH-unset}}\" \
             >>'{log}'\nprintf '%s\\n' \"$stdin\" >>'{log}'\n{body}\n",
            log = log.display()
        );
        self.executable(name, &script);
    }

    /// Installs an executable with exactly this text.
    pub fn executable(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// All calls since the last call of this function.
    pub fn calls(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("calls"));
        text.lines()
            .map(|line| {
                let parts: Vec<_> = line.splitn(8, '|').map(str::to_owned).collect();
                let [plugin, command, container_id, netns, args, ifname, path, stdin] =
                    parts.try_into().unwrap();
                Call { plugin, command, container_id, netns, args, ifname, path, stdin }
            })
            .collect()
    }

    /// The same calls, each as `plugin:COMMAND`.
    pub fn order(&self) -> Vec<String> {
        self.calls().iter().map(|call| format!("{}:{}", call.plugin, call.command)).collect()
    }

    /// The path of this attachment's record.
    pub fn cached(&self, network: &str, attachment: &Attachment) -> PathBuf {
        self.runtime.cache().path(network, &attachment.id()).unwrap()
    }

    /// Writes a file, and creates its directories.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

/// A list named `net` with plugins of these types.
pub fn list(version: &str, types: &[&str]) -> Conflist {
    let plugins: Vec<_> = types.iter().map(|name| serde_json::json!({ "type": name })).collect();
    let list = serde_json::json!({"cniVersion": version, "name": "net", "plugins": plugins});
    Conflist::from_bytes(list.to_string().as_bytes()).unwrap()
}

pub fn attachment() -> Attachment {
    Attachment::new("c1", "/run/netns/c1".to_owned(), "eth0")
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    names.sort();
    names
}
