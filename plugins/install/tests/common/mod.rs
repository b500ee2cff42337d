//! An image and a host in directories of the test, and calls of `moor-install` with them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const OURS: &str = env!("CARGO_BIN_EXE_moor-install");
pub const CONFLIST: &str = "10-moor.conflist";

/// What a name leads to: mode and content, or a link's target.
pub type Tree = BTreeMap<String, (u32, Vec<u8>)>;

/// An image, and a host on which others have been before.
pub struct Scene {
    home: tempfile::TempDir,
}

impl Scene {
    /// The host has the reference's `bridge` and `dhcp`, another network's plugin, a link under one of
    /// our names, and a conflist that is the first.
    pub fn new() -> Self {
        let scene = Self { home: tempfile::tempdir().unwrap() };
        for dir in ["image", "bin", "net.d"] {
            fs::create_dir(scene.path(dir)).unwrap();
        }
        scene.release("1");
        for (name, text) in
            [("bridge", "the reference's bridge"), ("dhcp", "its dhcp"), ("flannel", "another")]
        {
            scene.program(name, text);
        }
        symlink("/usr/lib/cni/static", scene.path("bin/static")).unwrap();
        fs::write(scene.path("net.d/05-flannel.conflist"), "{}").unwrap();
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Another's file in the directory of plugins.
    pub fn program(&self, name: &str, text: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    }

    /// Fills the image with a release.
    pub fn release(&self, number: &str) {
        for name in ["moor-plugins", "overlay-agent", "moor"] {
            fs::write(self.path("image").join(name), format!("{name} {number} {}", "x".repeat(900))).unwrap();
        }
        let plugin = r#"{"type":"bridge","ipam":{"type":"host-local"}}"#;
        let list = format!(r#"{{"cniVersion":"1.0.0","name":"n","plugins":[{plugin}],"release":{number}}}"#);
        fs::write(self.path("image").join(CONFLIST), list).unwrap();
    }

    /// The same host and image in another place.
    pub fn copy(&self) -> Self {
        let scene = Self { home: tempfile::tempdir().unwrap() };
        let from = self.home.path().join(".");
        // Names of one file stay names of one file.
        assert!(Command::new("cp").arg("-a").arg(from).arg(scene.home.path()).status().unwrap().success());
        scene
    }

    pub fn call(&self, wrapper: &[&str], verb: &str, options: &[&str]) -> Output {
        let words: Vec<&str> = wrapper.iter().copied().chain([OURS, verb]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("--bin").arg(self.path("bin")).arg("--net-d").arg(self.path("net.d"));
        if verb == "install" {
            command
                .arg("--from")
                .arg(self.path("image"))
                .arg("--conflist")
                .arg(self.path("image").join(CONFLIST));
        }
        command.args(options).output().unwrap()
    }

    pub fn succeeds(&self, verb: &str, options: &[&str]) -> String {
        let output = self.call(&[], verb, options);
        assert!(output.status.success(), "{verb}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The files of both directories. Without those of our own state.
    pub fn host(&self) -> Tree {
        let mut tree = Tree::new();
        for dir in ["bin", "net.d"] {
            for entry in fs::read_dir(self.path(dir)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name() != ".moor" {
                    let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
                    tree.insert(name, read(&entry.path()));
                }
            }
        }
        tree
    }

    /// Whether nothing of our state is left.
    pub fn is_clean(&self) -> bool {
        !self.path("bin/.moor").exists() && !self.path("net.d/.moor").exists()
    }
}

fn read(path: &Path) -> (u32, Vec<u8>) {
    let meta = fs::symlink_metadata(path).unwrap();
    let content = match fs::read_link(path) {
        Ok(target) => target.into_os_string().into_encoded_bytes(),
        Err(_) => fs::read(path).unwrap(),
    };
    (meta.mode(), content)
}
