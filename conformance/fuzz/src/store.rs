//! host-local's store with arbitrary content.

use std::fs;
use std::path::Path;

use cni::Env;
use host_local::{HostLocal, Roots};
use tempfile::TempDir;

/// Each line `NAME=CONTENT` is a file of the lease directory or, as `index=…` and `boot=…`, of our
/// own next to it. For any content, every verb ends with status 0 or with one error, ADD returns an
/// address of the range that no lease holds, and DEL frees it.
pub fn store(bytes: &[u8]) {
    let Ok(home) = TempDir::new() else { return };
    let home = home.path();
    let network = home.join("net");
    let roots = Roots {
        run: home.join("run/host-local"),
        boot_id: home.join("boot_id"),
        machine_id: home.join("machine-id"),
    };
    let made = [&network, &home.join(".moor"), &roots.run].iter().all(|dir| fs::create_dir_all(dir).is_ok());
    let written = fs::write(&roots.boot_id, "0a1b2c3d-0000-4000-8000-000000000000\n")
        .and_then(|()| fs::write(&roots.machine_id, "0123456789abcdef0123456789abcdef\n"));
    if !made || written.is_err() {
        return;
    }
    let plugin = HostLocal { roots: roots.clone() };
    // An index of this store, which the input then damages.
    verb(&plugin, home, "ADD", "first");
    verb(&plugin, home, "DEL", "first");
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some(at) = line.iter().position(|byte| *byte == b'=') else { continue };
        let (name, content) = (line.get(..at).unwrap_or(&[]), line.get(at + 1..).unwrap_or(&[]));
        let Ok(name) = std::str::from_utf8(name) else { continue };
        match name {
            "index" => overwrite(&roots.run, content),
            "boot" => drop(fs::write(home.join(".moor/net.boot"), content)),
            _ if name.is_empty() || name.contains(['/', '\0']) || name.starts_with("..") => {}
            _ => drop(fs::write(network.join(name), content)),
        }
    }
    verb(&plugin, home, "STATUS", "one");
    if let Some(given) = verb(&plugin, home, "ADD", "one") {
        let lease = network.join(&given);
        assert!(lease.exists(), "{given} was assigned without a lease");
        assert!(given.starts_with("10.1.2.") || given == "10.1.2.1", "{given} is outside of the range");
        verb(&plugin, home, "CHECK", "one");
        verb(&plugin, home, "DEL", "one");
        let held = fs::read(&lease).is_ok_and(|text| text.starts_with(b"one\r\n"));
        assert!(!held, "DEL left the lease of {given}");
    }
    verb(&plugin, home, "GC", "one");
}

/// Runs one verb; returns ADD's address.
fn verb(plugin: &HostLocal, home: &Path, command: &str, id: &str) -> Option<String> {
    let env: Env = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", id),
        ("CNI_NETNS", "/none"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/none"),
    ]
    .into_iter()
    .collect();
    let conf = serde_json::json!({
        "cniVersion": "1.1.0", "name": "net", "type": "host-local", "cni.dev/valid-attachments": [],
        "ipam": {"type": "host-local", "subnet": "10.1.2.0/28", "dataDir": home},
    });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let status = cni::run(plugin, &env, &mut conf.to_string().as_bytes(), &mut stdout, &mut stderr);
    let document: Option<serde_json::Value> = serde_json::from_slice(&stdout).ok();
    match status {
        0 => {
            let ip = document?["ips"][0]["address"].as_str()?.split('/').next()?.to_owned();
            Some(ip)
        }
        _ => {
            assert!(
                document.is_some_and(|document| document["code"].is_u64()),
                "{command}: no error document"
            );
            None
        }
    }
}

/// Writes the bytes over the head of every file of our own.
fn overwrite(run: &Path, content: &[u8]) {
    let Ok(files) = fs::read_dir(run) else { return };
    for path in files.flatten().map(|entry| entry.path()).filter(|path| path.is_file()) {
        let Ok(mut old) = fs::read(&path) else { continue };
        let over = content.len().min(old.len());
        old.splice(..over, content.iter().take(over).copied());
        // The file is a cache, so a failure loses nothing.
        let _ = fs::write(&path, old);
    }
}
