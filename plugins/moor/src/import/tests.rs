#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::path::{Path, PathBuf};

use super::*;
use crate::network::create::{Suite, conflist};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tool/import")
}

/// What becomes of a file: conflists, and a line for each thing that is skipped or lost.
fn imported(from: From, name: &str) -> String {
    let suite = Suite { firewall: true, dns: true };
    let mut text = String::new();
    for found in from.read(&dir().join(name)).unwrap() {
        match found {
            Found::Skipped { name, reason } => text += &format!("# {name} is skipped: {reason}\n"),
            Found::Network(network) => {
                for lost in &network.lost {
                    text += &format!("# {}: {}: {}\n", network.spec.name, lost.key, lost.reason);
                }
                text += &String::from_utf8(conflist(&network.spec, suite).unwrap()).unwrap();
            }
        }
    }
    text
}

/// T-083: networks of docker, podman and Quadlet become these conflists; with `BLESS=1` the records
/// are written anew.
#[test]
fn networks_become_the_recorded_conflists() {
    for (from, name) in [
        (From::Docker, "docker-20.10.json"),
        (From::Docker, "docker-28.json"),
        (From::Podman, "podman-netavark-1.4-front.json"),
        (From::Podman, "podman-netavark-1.4-lan.json"),
        (From::Podman, "podman-netavark-2.json"),
        (From::Quadlet, "front.network"),
        (From::Quadlet, "lan.network"),
    ] {
        let text = imported(from, name);
        let golden = dir().join(format!("{name}.golden"));
        if std::env::var_os("BLESS").is_some() {
            fs::write(&golden, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&golden).unwrap_or_default(), "{name}");
    }
}

fn losses(from: From, name: &str) -> Import {
    let mut import = Import::default();
    import.read(from, &dir().join(name));
    import
}

/// T-083: what loses something is refused unless that is asked for.
#[test]
fn a_lossy_import_is_refused_unless_it_is_asked_for() {
    let mut import = losses(From::Docker, "docker-28.json");
    assert!(import.note_losses(false));
    assert_eq!(import.notes.last().unwrap().code, "refused");
    assert!(!losses(From::Docker, "docker-28.json").note_losses(true));
    assert!(!losses(From::Docker, "docker-20.10.json").note_losses(false));
}

#[test]
fn a_name_is_for_one_network() {
    assert!(losses(From::Docker, "docker-20.10.json").rename(Some("x")).is_err());
    let mut one = losses(From::Quadlet, "lan.network");
    one.rename(Some("x")).unwrap();
    assert_eq!(one.networks[0].spec.name, "x");
    let mut none = losses(From::Podman, "missing.json");
    assert!(none.rename(Some("x")).is_err() && none.failed);
}

#[test]
fn a_file_of_another_kind_is_refused_with_the_reason() {
    for (bytes, why) in [
        (&b"{}"[..], "not what \"docker network inspect\" prints"),
        (b"[{\"Driver\":\"bridge\"}]", "missing field `Name`"),
        (b"[", "EOF"),
    ] {
        let refused = docker::read(bytes).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    assert!(podman::read(b"[]").is_err());
    for (text, why) in [
        ("Subnet=x\n", "there is no [Network]"),
        ("[Network]\nSubnet\n", "line 2: expected KEY=VALUE"),
        ("[Network]\nInternal=perhaps\n", "line 2: Internal: \"perhaps\" is neither true nor false"),
        ("[Network]\nLabel=\"a=b\n", "line 2: a quote does not end"),
        (
            "[Network]\nNetworkName=%n\n",
            "line 2: NetworkName: what \"%\" stands for is known to systemd alone",
        ),
        ("[Network\n", "line 1: the section has no \"]\""),
    ] {
        assert_eq!(quadlet::read(text, "x").unwrap_err(), why);
    }
}
