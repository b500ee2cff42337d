//! The commands, called as by a runtime; each test has its own directories.

mod add;
mod boot;
mod files;
mod index;
mod inquiry;
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cni::testing;
use serde_json::{Value, json};

use super::*;

/// A host: data directory, run directory and boot id, all in a temporary directory.
struct Room {
    home: tempfile::TempDir,
    plugin: HostLocal,
}

impl Room {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let roots = Roots {
            run: home.path().join("run/host-local"),
            boot_id: home.path().join("boot_id"),
            machine_id: home.path().join("machine-id"),
        };
        let room = Self { plugin: HostLocal { roots }, home };
        room.boot("first");
        room.machine(&"1".repeat(32));
        room
    }

    fn boot(&self, id: &str) {
        fs::write(&self.plugin.roots.boot_id, format!("{id}\n")).unwrap();
    }

    fn machine(&self, id: &str) {
        fs::write(&self.plugin.roots.machine_id, format!("{id}\n")).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn dir(&self) -> PathBuf {
        self.data().join("net")
    }

    fn lease(&self, ip: &str) -> PathBuf {
        self.dir().join(ip)
    }

    fn conf(&self, ipam: &Value) -> Value {
        let mut ipam = ipam.clone();
        ipam["dataDir"] = json!(self.data());
        json!({ "cniVersion": "1.1.0", "name": "net", "type": "x", "ipam": ipam })
    }

    /// Returns the exit status and the output.
    fn run(&self, command: &str, id: &str, ifname: &str, args: &str, conf: &Value) -> (u8, Value) {
        let env = testing::env(command, id, ifname, args);
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let status = cni::run(&self.plugin, &env, &mut conf.to_string().as_bytes(), &mut out, &mut log);
        let printed = if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).unwrap() };
        (status, printed)
    }

    fn add_conf(&self, id: &str, conf: &Value) -> Result<Vec<String>, String> {
        match self.run("ADD", id, "eth0", "", conf) {
            (0, result) => {
                let ips = result["ips"].as_array().unwrap().iter();
                Ok(ips
                    .map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned())
                    .collect())
            }
            (_, error) => Err(error["msg"].as_str().unwrap().to_owned()),
        }
    }

    fn add(&self, id: &str, ipam: &Value) -> Result<Vec<String>, String> {
        self.add_conf(id, &self.conf(ipam))
    }

    fn del(&self, id: &str, ipam: &Value) {
        assert_eq!(self.run("DEL", id, "eth0", "", &self.conf(ipam)), (0, Value::Null));
    }

    fn request(&self, id: &str, ipam: &Value, ips: Value) -> Result<Vec<String>, String> {
        let mut conf = self.conf(ipam);
        conf["runtimeConfig"] = json!({ "ips": ips });
        self.add_conf(id, &conf)
    }

    /// Every file of the network directory with its content.
    fn files(&self) -> BTreeMap<String, String> {
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        fs::read_dir(self.dir()).unwrap().map(|entry| read(entry.unwrap())).collect()
    }

    fn leases(&self) -> Vec<String> {
        self.files().into_keys().filter(|name| name.parse::<IpAddr>().is_ok()).collect()
    }

    /// Whether the index is valid for the next operation.
    fn index_in_force(&self) -> bool {
        leases::testing::index_in_force(&self.plugin.roots, &self.dir())
    }

    fn index_path(&self) -> PathBuf {
        leases::testing::index_path(&self.plugin.roots, &self.dir())
    }
}

fn small() -> Value {
    json!({ "subnet": "10.0.0.0/29" })
}

fn two_sets() -> Value {
    json!({ "ranges": [[{ "subnet": "10.0.0.0/29" }], [{ "subnet": "fd00::/126" }]] })
}

const EXHAUSTED: &str =
    "failed to allocate for range 0: no IP addresses available in range set: 10.0.0.1-10.0.0.6";
