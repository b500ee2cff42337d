//! bridge GC deletes the links of many dead attachments by one request, and no other link.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::case::Case;
use harness::config::{bridge, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Answer;
use harness::world;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const STRACE: &[Need] = &[Need::Strace];

pub const CASES: &[Case] = &[
    Case::new("bridge/gc_deletes_many_links_by_one_request", &["BR-R2", "BR-G1"], many).needs(STRACE),
    Case::new("bridge/gc_keeps_links_that_others_put_into_its_group", &["BR-10", "BR-G2"], joined)
        .needs(STRACE),
    Case::new("bridge/gc_deletes_links_one_by_one_without_a_group", &["BR-R2", "BR-G3"], refused)
        .needs(STRACE),
    Case::new("bridge/gc_killed_at_any_step_can_be_repeated", &["R-1", "BR-G4"], killed).needs(STRACE),
    Case::new("bridge/gc_of_two_networks_at_once_and_twice", &["C-047", "BR-G4"], at_once),
];

/// Attaches that many containers to a network with its own bridge: `net0`, `net1`...
fn attach(room: &Room, network: &str, count: usize) -> Result<Vec<Container>> {
    let ids = (0..count).map(|nth| format!("{network}{nth}"));
    ids.map(|id| {
        let container = room.container(&id)?;
        room.attach("bridge", "ADD", &container).config(&config(network)).run()?.result()?;
        Ok(container)
    })
    .collect()
}

fn config(network: &str) -> Value {
    let subnet = if network == "net" { "10.1.2.0/24" } else { "10.5.0.0/24" };
    let keys = json!({
        "name": network, "bridge": format!("br-{network}"), "ipMasq": true,
        "ipam": {"type": "host-local", "subnet": subnet},
    });
    with(&bridge("1.1.0"), keys)
}

/// GC of a network of which only these containers are attached.
fn gc(room: &Room, network: &str, valid: &[&str], under: &[&str]) -> Result<Answer> {
    let valid: Vec<_> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    let config = with(&config(network), json!({"cni.dev/valid-attachments": valid}));
    room.call("bridge", "GC").config(&config).under(under).run()
}

/// A veth of the host, unless an administrator of the world has it.
struct Veth {
    name: String,
    alias: Option<String>,
    group: String,
}

fn veths() -> Result<Vec<Veth>> {
    let links = ip::rows(None, &["-d", "link", "show", "type", "veth"])?;
    let text = |link: &Value, key: &str| link[key].as_str().map(str::to_owned);
    let veth = |link: &Value| {
        let name = text(link, "ifname").filter(|name| !world::is_administrators(name))?;
        Some(Veth { name, alias: text(link, "ifalias"), group: text(link, "group")? })
    };
    Ok(links.iter().filter_map(veth).collect())
}

/// Requires that these veths are left, in the default group.
fn ensure_left(owners: &[&str]) -> Result<()> {
    let left = veths()?;
    let mut labels: Vec<_> = left.iter().filter_map(|veth| veth.alias.clone()).collect();
    labels.sort();
    let wanted: Vec<_> = owners.iter().map(|id| format!("moor/{}/eth0/{id}", &id[..id.len() - 1])).collect();
    ensure!(labels == wanted && left.len() == wanted.len(), "left: {labels:?}, not {wanted:?}");
    for veth in left {
        ensure!(veth.group == "default", "{} is in group {}", veth.name, veth.group);
    }
    Ok(())
}

fn strace(log: &str) -> Vec<&str> {
    vec!["strace", "-f", "-qq", "-e", "trace=sendto,sendmsg", "-o", log]
}

fn many(room: &Room) -> Result<()> {
    attach(room, "net", 21)?;
    attach(room, "other", 2)?;
    let log = room.scratch("strace").display().to_string();
    gc(room, "net", &["net0"], &strace(&log))?.silent()?;
    ensure_left(&["net0", "other0", "other1"])?;
    ensure!(ip::link(Some("net7"), "eth0")?.is_none(), "net7 still has its interface");
    room.reach("net0", "10.1.2.1")?;
    let requests = fs::read_to_string(&log)?.matches("nlmsg_type=RTM_DELLINK").count();
    ensure!(requests == 1, "{requests} requests to delete 20 links");
    // One link needs no group.
    gc(room, "net", &[], &strace(&log))?.silent()?;
    ensure_left(&["other0", "other1"])?;
    ensure!(!fs::read_to_string(&log)?.contains("IFLA_GROUP"), "a group for one link");
    Ok(())
}

/// While GC is stopped before it lists the links again, an administrator puts a link into its group,
/// and takes over one of its links.
fn joined(room: &Room) -> Result<()> {
    let grouped = messages(&collected(room, &[])?, "IFLA_GROUP");
    let [.., last_join, _] = grouped[..] else { bail!("GC made no group") };
    attach(room, "net", 4)?;
    ip::run(&["link", "add", "people0", "type", "veth", "peer", "name", "people1"])?;
    // The signal is pending when the call begins, and stops the process when the call has ended.
    let inject = format!("inject=sendto:signal=SIGSTOP:when={last_join}");
    let log = room.scratch("strace").display().to_string();
    let over = AtomicBool::new(false);
    let (answer, joined) = std::thread::scope(|scope| {
        let administrator = scope.spawn(|| join_its_group(&over));
        let answer = gc(room, "net", &["net0"], &[&strace(&log)[..], &["-e", &inject]].concat());
        over.store(true, Ordering::Relaxed);
        (answer, administrator.join())
    });
    answer?.silent()?;
    let taken = joined.map_err(|_| anyhow!("the administrator panicked"))??;
    let left = veths()?.into_iter().filter(|veth| veth.alias.as_deref() != Some("moor/net/eth0/net0"));
    let mut left: Vec<_> = left.map(|veth| (veth.name, veth.group == "default")).collect();
    left.sort();
    let mut wanted = [("people0".into(), false), ("people1".into(), true), (taken, true)];
    wanted.sort();
    ensure!(left == wanted, "names, and whether in the default group: {left:?}, not {wanted:?}");
    Ok(())
}

/// Acts when all three links are in the group, and lets the stopped GC go on. Returns the name of
/// the link that was taken over.
fn join_its_group(over: &AtomicBool) -> Result<String> {
    while !over.load(Ordering::Relaxed) {
        let grouped: Vec<Veth> = veths()?.into_iter().filter(|veth| veth.group != "default").collect();
        if let [veth, _, _] = &grouped[..] {
            let commands =
                format!("link set people0 group {}\nlink set {} alias theirs", veth.group, veth.name);
            let done = ip::script(None, &commands);
            resume("bridge")?;
            return done.map(|()| veth.name.clone());
        }
    }
    bail!("nobody saw the group of three links")
}

/// Resumes the room's processes of this name.
fn resume(name: &str) -> Result<()> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let of_name = |comm: String| comm.trim_end() == name;
        if let Ok(pid) = entry.file_name().to_string_lossy().parse()
            && fs::read_to_string(entry.path().join("comm")).is_ok_and(of_name)
        {
            // It may have ended.
            kill(Pid::from_raw(pid), Signal::SIGCONT).ok();
        }
    }
    Ok(())
}

/// The numbers of the messages in a log that contain a text.
fn messages(log: &str, text: &str) -> Vec<usize> {
    let sent = log.lines().filter(|line| line.contains("sendto("));
    sent.enumerate().filter(|(_, line)| line.contains(text)).map(|(at, _)| at + 1).collect()
}

/// Attaches four containers, of which GC must delete three, and removes all; the log of GC.
fn collected(room: &Room, inject: &[&str]) -> Result<String> {
    let log = room.scratch("strace").display().to_string();
    let containers = attach(room, "net", 4)?;
    gc(room, "net", &["net0"], &[&strace(&log)[..], inject].concat())?.silent()?;
    ensure_left(&["net0"])?;
    gc(room, "net", &[], &[])?.silent()?;
    containers.iter().try_for_each(|container| room.remove(container))?;
    Ok(fs::read_to_string(&log)?)
}

fn refused(room: &Room) -> Result<()> {
    let plain = collected(room, &[])?;
    let grouped = messages(&plain, "IFLA_GROUP");
    ensure!(grouped.len() == 4, "3 links join a group, which is deleted: {plain}");
    for at in grouped {
        let inject = format!("inject=sendto:error=ENOBUFS:when={at}");
        let log = collected(room, &["-e", &inject]).with_context(|| inject.clone())?;
        let singly = log.lines().filter(|line| line.contains("RTM_DELLINK") && !line.contains("IFLA_GROUP"));
        ensure!(singly.count() == 3, "{inject}: not one by one: {log}");
    }
    Ok(())
}

fn killed(room: &Room) -> Result<()> {
    let log = room.scratch("strace").display().to_string();
    attach(room, "other", 1)?;
    let before = room.snapshot()?;
    let mut at = 0;
    loop {
        at += 1;
        let containers = attach(room, "net", 3)?;
        let inject = format!("inject=sendto:signal=KILL:when={at}");
        let answer = gc(room, "net", &["net0"], &[&strace(&log)[..], &["-e", &inject]].concat())?;
        gc(room, "net", &["net0"], &[])?.silent()?;
        ensure_left(&["net0", "other0"]).with_context(|| inject.clone())?;
        room.reach("net0", "10.1.2.1").with_context(|| inject.clone())?;
        gc(room, "net", &[], &[])?.silent()?;
        containers.iter().try_for_each(|container| room.remove(container))?;
        if answer.succeeded() {
            break;
        }
    }
    ensure!(at > 8, "only {at} steps");
    let left = room.left_since(&before, &["br-net"], &["net0", "net1", "net2"])?;
    ensure!(left.is_empty(), "left behind: {}", harness::diff::shown(&left));
    Ok(())
}

fn at_once(room: &Room) -> Result<()> {
    attach(room, "net", 9)?;
    attach(room, "other", 9)?;
    std::thread::scope(|scope| {
        let calls: Vec<_> = [("net", "net0"), ("other", "other0"), ("net", "net0"), ("other", "other0")]
            .into_iter()
            .map(|(network, valid)| scope.spawn(move || gc(room, network, &[valid], &[])?.silent()))
            .collect();
        calls.into_iter().try_for_each(|call| call.join().map_err(|_| anyhow!("a call panicked"))?)
    })?;
    ensure_left(&["net0", "other0"])?;
    room.reach("net0", "10.1.2.1")?;
    room.reach("other0", "10.5.0.1")
}
