//! The life cycle of a responder: records, executable, privileges, exit.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use dns::control::{ControlRequest, client};
use dns::record::{Attachment, Mode, Network, StateDir};
use dns::restore;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use common::*;

/// D-053.
#[test]
fn the_responder_keeps_only_the_privilege_of_low_ports() {
    in_own_network("the_responder_keeps_only_the_privilege_of_low_ports", || {
        let responder = Responder::start(&network(&[]));
        let status = fs::read_to_string(format!("/proc/{}/status", responder.child.id())).unwrap();
        for line in [
            "CapPrm:\t0000000000000400",
            "CapEff:\t0000000000000400",
            "CapInh:\t0000000000000400",
            "CapAmb:\t0000000000000400",
            "Uid:\t61053\t61053\t61053\t61053",
            "Gid:\t61053\t61053\t61053\t61053",
            "Groups:\t \n",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line}\n{status}");
        }
    });
}

/// D-055.
#[test]
fn a_malformed_request_closes_only_its_control_connection() {
    in_own_network("a_malformed_request_closes_only_its_control_connection", || {
        let responder = Responder::start(&network(&[]));
        for junk in [b"junk".to_vec(), b"{}".to_vec(), vec![b' '; 5000], br#"{"ask":"what"}"#.to_vec()] {
            let mut control = responder.control();
            control.send(&junk);
            assert_eq!(control.receive(), None);
        }
        let mut control = responder.control();
        for _ in 0..3 {
            assert_eq!(control.ask(&ControlRequest::Hello).unwrap().pid, responder.child.id());
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(responder.state_dir.control()).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    });
}

/// D-001, D-065, D-068: `sync` returns when the change is in force.
#[test]
fn changes_are_in_force_when_sync_returns() {
    in_own_network("changes_are_in_force_when_sync_returns", || {
        let responder = Responder::start(&network(&[]));
        for round in 0..50 {
            let container = format!("r{round}");
            responder.state_dir.put_attachment(&attachment(&container, "new", "10.0.0.9")).unwrap();
            assert_eq!(responder.sync(&container), None);
            assert_eq!(ask("new.foo.io"), (0, 1));
            assert!(responder.state_dir.remove_attachment("n1", &key(&container)).unwrap());
            assert_eq!(responder.sync(&container), None);
            assert_eq!(ask("new.foo.io"), (3, 0));
        }
        // The network and its sockets are removed with the last attachment.
        responder.state_dir.remove_attachment("n1", &key("c1")).unwrap();
        assert_eq!(responder.sync("c1"), None);
        let taken = UdpSocket::bind(GATEWAY).unwrap();
        responder.state_dir.put_network(&network(&[])).unwrap();
        responder.state_dir.put_attachment(&attachment("c1", "web", "10.0.0.2")).unwrap();
        let error = responder.sync("c1").expect("the port is taken");
        for part in [GATEWAY, "UDP", "in use"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        drop(taken);
        assert_eq!(responder.sync("c1"), None);
        assert_eq!(ask("web"), (0, 1));
    });
}

/// Changes by hand take effect without a plugin, also in a responder that executed another
/// version; sockets follow.
#[test]
fn records_changed_by_hand_are_noticed() {
    in_own_network("records_changed_by_hand_are_noticed", || {
        let responder = Responder::start(&network(&[]));
        let (state_dir, dir) = (&responder.state_dir, responder.state_dir.network_dir("n1"));
        let file = |container: &str| state_dir.attachments_dir("n1").join(key(container).file_name());
        let aside = file("c2").with_extension("aside");
        for round in 0..2 {
            state_dir.put_attachment(&attachment("c2", "db", "10.0.0.3")).unwrap();
            soon("a record appears", || ask("db") == (0, 1));
            fs::rename(file("c2"), &aside).unwrap();
            soon("it is moved aside", || ask("db.foo.io") == (3, 0));
            fs::rename(&aside, file("c2")).unwrap();
            soon("it is moved back", || ask("db") == (0, 1));
            fs::remove_file(file("c2")).unwrap();
            soon("it is removed", || ask("db.foo.io") == (3, 0));
            assert_eq!(ask("web"), (0, 1), "others are kept");
            let text = fs::read_to_string(file("c1")).unwrap();
            fs::write(file("c1"), text.replace("\"web\"", "\"new\"")).unwrap();
            soon("a record is written again", || ask("new") == (0, 1));
            fs::write(file("c1"), &text).unwrap();
            soon("as it was", || ask("web") == (0, 1));
            fs::remove_dir_all(&dir).unwrap();
            soon("sockets are closed with the network", || !is_heard());
            state_dir.put_attachment(&attachment("c1", "web", "10.0.0.2")).unwrap();
            state_dir.put_network(&network(&[])).unwrap();
            soon("sockets are opened again", is_heard);
            assert_eq!(ask("web"), (0, 1), "round {round}");
            let path = env!("CARGO_BIN_EXE_dns").to_owned();
            assert_eq!(responder.control().ask(&ControlRequest::Reexec { path }).unwrap().error, None);
            assert_eq!(responder.control().ask(&ControlRequest::Hello).unwrap().pid, responder.child.id());
        }
        fs::remove_dir_all(state_dir.dir()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(ask("web"), (0, 1), "removed records are served from memory");
        let _lock = state_dir.lock().unwrap();
        assert!(restore::is_due(state_dir));
        restore::restore(state_dir).unwrap();
        assert!(matches!(state_dir.attachment("n1", &key("c1")), Ok(Some(_))) && !restore::is_due(state_dir));
        assert_eq!((ask("web"), responder.sync("c1")), ((0, 1), None));
        assert_eq!(responder.control().ask(&ControlRequest::Hello).unwrap().pid, responder.child.id());
    });
}

/// D-069, D-070
#[test]
fn reloads_and_a_new_executable_lose_no_query() {
    in_own_network("reloads_and_a_new_executable_lose_no_query", || {
        let (outside, _) = server("127.0.2.1:53", |question| vec![answered(question, 0)]);
        let responder = Responder::start(&network(&[outside]));
        let over = Arc::new(AtomicBool::new(false));
        let (begun, started) = mpsc::channel();
        let askers: Vec<_> = ["web", "example.org"]
            .map(|name| {
                let (over, begun) = (Arc::clone(&over), begun.clone());
                thread::spawn(move || {
                    let mut asked = 0;
                    while !over.load(Ordering::SeqCst) {
                        assert_eq!(ask(name), (0, 1));
                        asked += 1;
                        let _ = begun.send(());
                    }
                    asked
                })
            })
            .into();
        started.recv().unwrap();
        for round in 0..40 {
            responder.state_dir.put_attachment(&attachment(&format!("r{round}"), "new", "10.0.0.9")).unwrap();
            responder.control().ask(&ControlRequest::Sync { network: "n1".into(), key: None }).unwrap();
        }
        let pid = responder.child.id();
        for _ in 0..5 {
            let path = env!("CARGO_BIN_EXE_dns").to_owned();
            assert_eq!(responder.control().ask(&ControlRequest::Reexec { path }).unwrap().error, None);
            // The successor answers on the same socket, with the same process id.
            assert_eq!(responder.control().ask(&ControlRequest::Hello).unwrap().pid, pid);
        }
        assert!(
            responder
                .control()
                .ask(&ControlRequest::Reexec { path: "/none".into() })
                .unwrap()
                .error
                .is_some()
        );
        over.store(true, Ordering::SeqCst);
        for asker in askers {
            assert!(asker.join().unwrap() > 0);
        }
        let second = spawn(&responder.state_dir, "60").1;
        assert!(second.contains("another responder lives"), "the lock is held throughout: {second}");
    });
}

/// D-061, D-071: a killed responder blocks nothing; one without attachments exits.
#[test]
fn a_killed_responder_is_replaced_and_an_idle_one_exits() {
    in_own_network("a_killed_responder_is_replaced_and_an_idle_one_exits", || {
        let mut responder = Responder::start(&network(&[]));
        responder.child.kill().unwrap();
        responder.child.wait().unwrap();
        assert!(responder.state_dir.control().exists());
        let (child, line) = spawn(&responder.state_dir, "0");
        responder.child = child;
        assert_eq!(line, "ok");
        assert_eq!(ask("web"), (0, 1));
        let held = responder.state_dir.lock().unwrap();
        responder.state_dir.remove_attachment("n1", &key("c1")).unwrap();
        assert_eq!(responder.sync("c1"), None, "it stays while a plugin is at work");
        drop(held);
        assert!(responder.child.wait().unwrap().success());
        // Its user may not remove the socket. Nobody listens there.
        let socket = client::socket().unwrap();
        let asked = client::call(&socket, &responder.state_dir.control(), &ControlRequest::Hello, &[]);
        assert!(matches!(asked, Err(client::Error::Absent)), "{asked:?}");
        assert!(responder.state_dir.responder_lock().exists());
    });
}

/// A signal of an operator or of the shutdown stops it, even if its caller ignored the signal.
#[test]
fn termination_signals_work_even_if_the_caller_ignored_them() {
    in_own_network("termination_signals_work_even_if_the_caller_ignored_them", || {
        let mut responder = Responder::start(&network(&[]));
        for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            responder.child.kill().unwrap();
            responder.child.wait().unwrap();
            let ignoring = ["-c", "trap '' TERM HUP INT; exec \"$@\"", "sh"];
            let mut command = Command::new("sh");
            command.args(ignoring).arg(env!("CARGO_BIN_EXE_dns"));
            let (child, line) = serve(command, &responder.state_dir, "60");
            responder.child = child;
            assert_eq!((line.as_str(), ask("web")), ("ok", (0, 1)));
            let pid = Pid::from_raw(responder.child.id().cast_signed());
            kill(pid, signal).unwrap();
            let status = responder.child.wait().unwrap();
            assert_eq!(status.signal(), Some(signal as i32));
        }
    });
}

/// D-061: also if systemd restarted it, so that no plugin passes it sockets.
#[test]
fn a_restarted_responder_reopens_sockets_in_containers() {
    in_own_network("a_restarted_responder_reopens_sockets_in_containers", || {
        let run = |words: &str| {
            let mut words = words.split(' ');
            assert!(Command::new(words.next().unwrap()).args(words).status().unwrap().success());
        };
        run("mount -t tmpfs none /run");
        run("ip netns add c9");
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir::at(dir.path());
        state_dir.put_network(&Network { mode: Mode::Netns, listen: Vec::new(), ..network(&[]) }).unwrap();
        let gone =
            Attachment { netns: Some("/run/netns/gone".into()), ..attachment("c8", "old", "10.0.0.8") };
        let there = Attachment { netns: Some("/run/netns/c9".into()), ..attachment("c9", "web", "10.0.0.9") };
        state_dir.put_attachment(&gone).unwrap();
        state_dir.put_attachment(&there).unwrap();
        let inside = sys::NetNs::open("/run/netns/c9").unwrap();
        for _ in 0..2 {
            let (mut child, line) = spawn(&state_dir, "60");
            let answered = inside.enter(|| ask_at("127.0.0.11:53", "web")).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!((line.as_str(), answered), ("ok", (0, 1)));
        }
    });
}
