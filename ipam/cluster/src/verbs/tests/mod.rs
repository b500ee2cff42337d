//! The commands, called as by a runtime. Hosts of one cluster in a temporary directory; their agents
//! share the truth of a cluster in memory, and answer over control sockets.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod add;
mod agent;
mod inquiry;
mod model;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ::agent::Files;
use cni::testing;
use serde_json::{Value, json};

use super::*;
use agent::{Agent, Truth};

/// The hosts of a cluster with one network.
struct Hosts {
    home: tempfile::TempDir,
    truth: Arc<Mutex<Truth>>,
    hosts: Vec<HostOfTest>,
}

/// A host: its own directories, and an agent.
struct HostOfTest {
    dir: PathBuf,
    plugin: Cluster,
    agent: Agent,
}

impl Hosts {
    fn new(count: usize) -> Self {
        let home = tempfile::tempdir().unwrap();
        let truth = Arc::new(Mutex::new(Truth::default()));
        let hosts =
            (0..count).map(|n| HostOfTest::new(home.path().join(format!("host{n}")), n, &truth)).collect();
        Self { home, truth, hosts }
    }
}

impl HostOfTest {
    fn new(dir: PathBuf, number: usize, truth: &Arc<Mutex<Truth>>) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let roots = Roots {
            run: dir.join("run/host-local"),
            boot_id: dir.join("boot_id"),
            machine_id: dir.join("machine-id"),
        };
        fs::write(&roots.boot_id, "first\n").unwrap();
        fs::write(&roots.machine_id, format!("{number:032x}\n")).unwrap();
        let settings = dir.join("cluster.json");
        fs::write(&settings, json!({ "endpoints": ["http://127.0.0.1:2379"], "timeoutMs": 500 }).to_string())
            .unwrap();
        let files = Files::at(dir.join("state"), dir.join("run/overlay"));
        let agent = Agent::start(&dir, &files, number, truth);
        let host = Host { files: Some(files), settings };
        let plugin = Cluster { roots, data_dir: dir.join("networks"), host };
        Self { dir, plugin, agent }
    }

    /// Returns the exit status and the output.
    fn run(&self, command: &str, id: &str, args: &str, conf: &Value) -> (u8, Value) {
        let env = testing::env(command, id, if id.is_empty() { "" } else { "eth0" }, args);
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let status = cni::run(&self.plugin, &env, &mut conf.to_string().as_bytes(), &mut out, &mut log);
        let printed = if out.is_empty() { Value::Null } else { serde_json::from_slice(&out).unwrap() };
        (status, printed)
    }

    /// The addresses, or code and text of the error.
    fn add_conf(&self, id: &str, conf: &Value) -> Result<Vec<String>, String> {
        match self.run("ADD", id, "", conf) {
            (0, result) => {
                let ips = result["ips"].as_array().unwrap().iter();
                let text = |ip: &Value| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
                Ok(ips.map(text).collect())
            }
            (_, error) => Err(format!("{} {}", error["code"], error["msg"].as_str().unwrap())),
        }
    }

    fn add(&self, id: &str, ipam: &Value) -> Result<Vec<String>, String> {
        self.add_conf(id, &conf(ipam))
    }

    fn ask_for(&self, id: &str, ipam: &Value, ips: Value) -> Result<Vec<String>, String> {
        let mut conf = conf(ipam);
        conf["runtimeConfig"] = json!({ "ips": ips });
        self.add_conf(id, &conf)
    }

    fn del(&self, id: &str, ipam: &Value) {
        assert_eq!(self.run("DEL", id, "", &conf(ipam)), (0, Value::Null));
    }

    fn files(&self) -> &Files {
        self.plugin.host.files.as_ref().unwrap()
    }

    fn blocks(&self) -> Blocks {
        self.files().blocks("front").unwrap().unwrap()
    }

    fn network_dir(&self) -> PathBuf {
        self.dir.join("networks/front")
    }

    /// Every lease with its text.
    fn leases(&self) -> BTreeMap<String, String> {
        let Ok(entries) = fs::read_dir(self.network_dir()) else { return BTreeMap::new() };
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
        };
        entries.map(|entry| read(entry.unwrap())).filter(|(name, _)| name.parse::<IpAddr>().is_ok()).collect()
    }
}

fn conf(ipam: &Value) -> Value {
    let mut ipam = ipam.clone();
    ipam["type"] = json!("cluster");
    json!({ "cniVersion": "1.1.0", "name": "front", "type": "bridge", "ipam": ipam })
}

/// Blocks of 4: 16 of them.
fn small() -> Value {
    json!({ "subnets": ["10.9.0.0/26"], "blockSize": 4 })
}

/// Two blocks: 3 and 2 addresses for containers, if one host has both.
fn tiny() -> Value {
    json!({ "subnets": ["10.9.0.0/29"], "blockSize": 4 })
}

fn two_families() -> Value {
    json!({ "subnets": ["10.9.0.0/26", "fd00:9::/64"], "blockSize": 4 })
}
