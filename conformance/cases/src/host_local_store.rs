//! host-local: the store under load, shared with another suite, across reboots, corrupt and full.

use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::need::Need;
use harness::room::Room;
use harness::store::{self, NET};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::host_local::{add, attach, given, ranges};

pub const CASES: &[Case] = &[
    Case::new("host_local/reboot_frees_the_range", &["HL-R4"], reboot),
    Case::new("host_local/reclaim_never_keeps_leases_across_reboots", &["HL-R4"], reclaim_never),
    Case::new("host_local/cooldown_delays_reuse_of_a_freed_address", &["HL-K11"], cooldown),
    Case::new("host_local/gc", &["C-045", "C-046", "HL-R2"], gc),
    Case::new("host_local/status", &["C-044", "HL-R3"], status),
    Case::new("host_local/empty_lease_file_is_free", &["HL-B5"], empty_file),
    Case::new("host_local/legacy_leases_with_the_id_only_are_honoured", &["HL-10"], legacy),
    Case::new("host_local/foreign_file_named_like_an_address_counts_as_leased", &["HL-11"], foreign),
    Case::new("host_local/del_releases_by_id_with_invalid_config", &["R-4", "HL-R1"], del_fallback),
    Case::new("host_local/unwritable_pointer_leaves_no_lease", &["HL-B6"], pointer_fails),
    Case::new("host_local/nested_networks_are_not_scanned", &["HL-B7"], nested),
    Case::new("host_local/container_id_that_is_an_address", &["HL-B8"], id_is_address),
    Case::new("host_local/lock_is_honoured", &["R-9", "HL-12"], lock),
    Case::new("host_local/data_dir_that_is_a_file", &["HL-K6"], dir_is_file),
    Case::new("host_local/data_dir_read_only", &["HL-K6"], dir_read_only),
    Case::new("host_local/data_dir_full", &["HL-R5"], dir_full),
    Case::new("host_local/ten_thousand_leases_need_few_open_files", &["HL-R6"], ten_thousand)
        .needs(&[Need::Strace]),
];

/// Makes the room look like the machine after a reboot: another boot id, an empty /run/moor.
fn boot(room: &Room, n: u32) -> Result<()> {
    let id = room.write("boot_id", format!("00000000-0000-4000-8000-{n:012}\n"))?;
    let target = "/proc/sys/kernel/random/boot_id";
    mount(Some(&id), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("fake the boot id")?;
    fs::remove_dir_all("/run/moor").ok();
    Ok(())
}

fn reboot(room: &Room) -> Result<()> {
    let config = ranges(json!([[{"subnet": "10.0.0.0/29", "rangeEnd": "10.0.0.4"}]]));
    boot(room, 1)?;
    for id in ["a", "b", "c"] {
        add(room, id, &config)?.result()?;
    }
    add(room, "d", &config)?.error_with(999, "no IP addresses available in range set")?;
    boot(room, 2)?;
    for id in ["x", "y", "z"] {
        add(room, id, &config)?.result().with_context(|| format!("{id} after the reboot"))?;
    }
    // A late DEL of a container from before the reboot must not free the new owner's address.
    attach(room, "DEL", "a", &config)?.silent()?;
    let owners: Vec<_> = store::leases(NET)?.into_iter().map(|(_, content)| content).collect();
    ensure!(
        owners.len() == 3 && ["x", "y", "z"].iter().all(|id| owners.contains(&store::content(id, "eth0"))),
        "{owners:?}"
    );
    // The same boot: nothing is reclaimed.
    add(room, "d", &config)?.error_with(999, "no IP addresses available in range set")?;
    Ok(())
}

fn reclaim_never(room: &Room) -> Result<()> {
    let mut config = ranges(json!([[{"subnet": "10.0.0.0/29", "rangeEnd": "10.0.0.4"}]]));
    config["ipam"]["reclaim"] = "never".into();
    boot(room, 1)?;
    for id in ["a", "b", "c"] {
        add(room, id, &config)?.result()?;
    }
    let before = store::leases(NET)?;
    boot(room, 2)?;
    add(room, "x", &config)?.error_with(999, "no IP addresses available in range set")?;
    ensure!(store::leases(NET)? == before, "leases changed: {:?}", store::leases(NET)?);
    config["ipam"]["reclaim"] = "sometimes".into();
    add(room, "x", &config)?.error()?;
    Ok(())
}

fn cooldown(room: &Room) -> Result<()> {
    let mut config = ranges(json!([[{"subnet": "10.0.0.0/29"}]]));
    for (network, cooldown, expected) in [("net", 3600, "10.0.0.3"), ("net0", 0, "10.0.0.2")] {
        config["name"] = network.into();
        config["ipam"]["cooldown"] = cooldown.into();
        ensure!(given(&add(room, "a", &config)?.result()?) == ["10.0.0.2"]);
        attach(room, "DEL", "a", &config)?.silent()?;
        // The pointer is set to the end of the range: the next scan begins with the freed address.
        add(room, "last", &with(&config, json!({"runtimeConfig": {"ips": ["10.0.0.6"]}})))?.result()?;
        let got = given(&add(room, "b", &config)?.result()?);
        ensure!(got == [expected], "cooldown {cooldown}: gave {got:?}, expected {expected}");
    }
    // If no other address is free, one in cooldown is allocated.
    config["name"] = "net".into();
    config["ipam"]["cooldown"] = 3600.into();
    for id in ["c", "d", "e"] {
        add(room, id, &config)?.result()?;
    }
    ensure!(store::addresses(NET)?.contains(&"10.0.0.2".to_owned()), "{:?}", store::addresses(NET)?);
    Ok(())
}

fn collected(room: &Room, keys: Value) -> Result<Vec<String>> {
    room.call("host-local", "GC").config(&with(&host_local("1.1.0", "10.1.2.0/24"), keys)).run()?.silent()?;
    store::addresses(NET)
}

fn gc(room: &Room) -> Result<()> {
    let fill = || -> Result<()> {
        for (address, content) in [
            ("10.1.2.2", "a\r\neth0"),
            ("10.1.2.3", "a\r\neth1"),
            ("10.1.2.4", "b\r\neth0"),
            ("10.1.2.5", "old"),
            ("10.1.2.6", ""),
        ] {
            store::write(NET, address, content)?;
        }
        store::write(NET, "last_reserved_ip.0", "10.1.2.6")?;
        store::write(NET, "lock", "")?;
        store::write("/var/lib/cni/networks/other", "10.1.2.2", "a\r\neth0").map(drop)
    };
    fill()?;
    let left = collected(room, json!({}))?;
    ensure!(
        left.iter().filter(|address| *address != "10.1.2.6").count() == 4,
        "without the key nothing is released: {left:?}"
    );
    let valid = json!([{"containerID": "a", "ifname": "eth0"}, {"containerID": "old", "ifname": "eth7"}]);
    let left = collected(room, json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}))?;
    ensure!(left == ["10.1.2.2", "10.1.2.5"], "{left:?}");
    for none in [json!(null), json!([])] {
        fill()?;
        let left = collected(room, json!({"cni.dev/valid-attachments": none}))?;
        ensure!(left.is_empty(), "{none} is the empty set: {left:?}");
    }
    ensure!(
        store::pointer(NET, 0).as_deref() == Some("10.1.2.6") && Path::new(NET).join("lock").exists(),
        "GC removed the pointer or the lock"
    );
    ensure!(store::addresses("/var/lib/cni/networks/other")? == ["10.1.2.2"], "GC went to another network");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let config = with(
        &ranges(json!([[{"subnet": "10.0.0.0/30"}], [{"subnet": "fd00::/64"}]])),
        json!({"cniVersion": "1.1.0"}),
    );
    let status = |config: &Value| room.call("host-local", "STATUS").config(config).run();
    status(&config)?.silent()?;
    ensure!(store::leases(NET)?.is_empty(), "STATUS allocated a lease");
    add(room, "a", &config)?.result()?;
    status(&config)?.error_code(50)?;
    attach(room, "DEL", "a", &config)?.silent()?;
    status(&config)?.silent()?;
    status(&with(&config, json!({"ipam": null})))?.error()?;
    status(&with(&config, json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.0.0.1/24"}]]}})))?
        .error()?;
    room.write("file", "")?;
    let mut unwritable = config.clone();
    unwritable["ipam"]["dataDir"] = "/run/room/file".into();
    status(&unwritable)?.error_code(50)?;
    Ok(())
}

fn empty_file(room: &Room) -> Result<()> {
    let config = ranges(json!([[{"subnet": "10.0.0.0/30"}]]));
    store::write(NET, "10.0.0.2", "")?;
    let result = add(room, "a", &config)?.result()?;
    ensure!(given(&result) == ["10.0.0.2"], "{result}");
    ensure!(store::leases(NET)?[0].1 == store::content("a", "eth0"), "{:?}", store::leases(NET)?);
    Ok(())
}

fn legacy(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    store::write(NET, "10.1.2.9", "old\n")?;
    attach(room, "CHECK", "old", &config)?.silent()?;
    add(room, "old", &config)?
        .error_with(999, "10.1.2.9 has been allocated to old, duplicate allocation is not allowed")?;
    attach(room, "DEL", "old", &config)?.silent()?;
    ensure!(store::leases(NET)?.is_empty(), "{:?}", store::leases(NET)?);
    // An exact match is preferred: the file with the id only then belongs to another interface.
    store::write(NET, "10.1.2.9", "old")?;
    store::write(NET, "10.1.2.10", &store::content("old", "eth0"))?;
    attach(room, "DEL", "old", &config)?.silent()?;
    ensure!(store::addresses(NET)? == ["10.1.2.9"], "{:?}", store::addresses(NET)?);
    // A bare line feed is not a separator.
    store::write(NET, "10.1.2.11", "lf\neth0")?;
    attach(room, "CHECK", "lf", &config)?.error_code(999)?;
    Ok(())
}

fn foreign(room: &Room) -> Result<()> {
    let config = ranges(json!([[{"subnet": "10.0.0.0/29", "rangeEnd": "10.0.0.3"}]]));
    store::write(NET, "10.0.0.2", "something else entirely")?;
    let result = add(room, "a", &config)?.result()?;
    ensure!(given(&result) == ["10.0.0.3"], "{result}");
    add(room, "b", &config)?.error_with(999, "no IP addresses available in range set")?;
    attach(room, "DEL", "something", &config)?.silent()?;
    ensure!(store::addresses(NET)?.len() == 2, "{:?}", store::addresses(NET)?);
    Ok(())
}

fn del_fallback(room: &Room) -> Result<()> {
    let good = host_local(USUAL, "10.1.2.0/24");
    for bad in [
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.5/24"}]]}}),
        json!({"ipam": {"type": "host-local", "ranges": []}}),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "x"}]], "routes": [{"dst": "y"}]}}),
        json!({"ipam": {"type": "host-local", "ranges": "x"}}),
        json!({"ipam": null}),
        json!({"runtimeConfig": {"ips": ["x"]}}),
    ] {
        add(room, "a", &good)?.result()?;
        add(room, "other", &good)?.result()?;
        attach(room, "DEL", "a", &with(&good, bad.clone()))?.silent().with_context(|| bad.to_string())?;
        let owners: Vec<_> = store::leases(NET)?.into_iter().map(|(_, content)| content).collect();
        ensure!(owners == [store::content("other", "eth0")], "{bad}: {owners:?}");
        attach(room, "DEL", "other", &good)?.silent()?;
    }
    Ok(())
}

fn pointer_fails(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    fs::create_dir_all(format!("{NET}/last_reserved_ip.0/in-the-way"))?;
    let answer = add(room, "a", &config)?;
    if answer.succeeded() {
        // Allocation without a pointer is acceptable: the address is allocated once and is free
        // after DEL.
        attach(room, "DEL", "a", &config)?.silent()?;
    } else {
        answer.error_code(999)?;
    }
    ensure!(store::leases(NET)?.is_empty(), "a lease is left: {:?}", store::leases(NET)?);
    Ok(())
}

fn nested(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    let inner = format!("{NET}/inner");
    store::write(&inner, "10.1.2.9", &store::content("a", "eth0"))?;
    attach(room, "DEL", "a", &config)?.silent()?;
    ensure!(store::addresses(&inner)? == ["10.1.2.9"], "another network's lease was freed");
    add(room, "a", &config)?.result()?;
    Ok(())
}

fn id_is_address(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "other", &config)?.result()?;
    attach(room, "DEL", "10.1.2.2", &config)?.silent()?;
    ensure!(store::pointer(NET, 0).as_deref() == Some("10.1.2.2"), "DEL took the pointer for a lease");
    ensure!(store::addresses(NET)? == ["10.1.2.2"], "{:?}", store::addresses(NET)?);
    Ok(())
}

fn lock(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    fs::create_dir_all(NET)?;
    let file = File::create(format!("{NET}/lock"))?;
    file.lock().context("lock the store")?;
    let (sender, receiver) = channel();
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| drop(sender.send(add(room, "a", &config))));
        let early = receiver.recv_timeout(Duration::from_millis(300));
        file.unlock().context("release the lock")?;
        ensure!(matches!(early, Err(RecvTimeoutError::Timeout)), "ADD did not wait for the lock's holder");
        receiver
            .recv_timeout(Duration::from_secs(10))
            .map_err(|_| anyhow!("ADD never came back"))??
            .result()
            .map(drop)
    })
}

/// ADD into that dataDir must fail with an error object and leave nothing; DEL must not crash.
fn unusable(room: &Room, dir: &str) -> Result<()> {
    let mut config = host_local(USUAL, "10.1.2.0/24");
    config["ipam"]["dataDir"] = dir.into();
    let before = harness::snapshot::files(&[Path::new(dir)]);
    add(room, "a", &config)?.error_code(999)?;
    let del = attach(room, "DEL", "a", &config)?;
    if !del.succeeded() {
        del.error()?;
    }
    let after = harness::snapshot::files(&[Path::new(dir)]);
    let left = harness::leftover::of_attachments(&harness::diff::lines(&before, &after), &[], &["a"]);
    ensure!(left.is_empty(), "left behind: {left:#?}");
    Ok(())
}

fn dir_is_file(room: &Room) -> Result<()> {
    room.write("file", "precious")?;
    unusable(room, "/run/room/file")?;
    unusable(room, "/run/room/file/below")?;
    ensure!(fs::read_to_string(room.scratch("file"))? == "precious", "the file was changed");
    Ok(())
}

/// A tmpfs in the scratch directory.
fn small_disk(room: &Room, options: &str) -> Result<String> {
    let dir = room.scratch("disk");
    fs::create_dir_all(&dir)?;
    mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some(options))
        .context("mount a small tmpfs")?;
    Ok(dir.display().to_string())
}

fn dir_read_only(room: &Room) -> Result<()> {
    let dir = small_disk(room, "size=64k")?;
    store::write(format!("{dir}/net"), "10.1.2.2", &store::content("other", "eth0"))?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, dir.as_str(), None::<&str>, flags, None::<&str>).context("make it read-only")?;
    unusable(room, &dir)?;
    umount2(dir.as_str(), MntFlags::MNT_DETACH)?;
    Ok(())
}

fn dir_full(room: &Room) -> Result<()> {
    // No byte free, then no inode free, at every step of ADD.
    let dir = small_disk(room, "size=8k")?;
    store::write(format!("{dir}/net"), "10.1.2.2", &store::content("other", "eth0"))?;
    fs::write(format!("{dir}/ballast"), vec![b'x'; 4096])?;
    fs::write(format!("{dir}/net/last_reserved_ip.0"), "").ok();
    unusable(room, &dir)?;
    ensure!(store::leases(format!("{dir}/net"))?.len() == 1, "the other's lease is gone");
    umount2(dir.as_str(), MntFlags::MNT_DETACH)?;
    for inodes in 2..8 {
        let dir = small_disk(room, &format!("nr_inodes={inodes}"))?;
        let mut config = host_local(USUAL, "10.1.2.0/24");
        config["ipam"]["dataDir"] = dir.as_str().into();
        let answer = add(room, "a", &config)?;
        let leases = store::leases(format!("{dir}/net"))?;
        if answer.succeeded() {
            ensure!(
                leases.len() == 1 && leases[0].1 == store::content("a", "eth0"),
                "{inodes} inodes: {leases:?}"
            );
            attach(room, "DEL", "a", &config)?.silent()?;
        } else {
            answer.error_code(999)?;
        }
        let leases = store::leases(format!("{dir}/net"))?;
        ensure!(leases.is_empty(), "{inodes} inodes: left behind {leases:?}");
        umount2(dir.as_str(), MntFlags::MNT_DETACH)?;
    }
    Ok(())
}

fn ten_thousand(room: &Room) -> Result<()> {
    let config = ranges(json!([[{"subnet": "10.64.0.0/16"}]]));
    for n in 2..10_002_u32 {
        store::write(
            NET,
            &format!("10.64.{}.{}", n >> 8, n & 255),
            &store::content(&format!("c{n}"), "eth0"),
        )?;
    }
    store::write(NET, "last_reserved_ip.0", "10.64.39.17")?;
    // The first call may read everything to build its index.
    add(room, "first", &config)?.result()?;
    let log = room.scratch("opened");
    for verb in ["ADD", "DEL"] {
        let call = room.call("host-local", verb).env("CNI_CONTAINERID", "second").env("CNI_IFNAME", "eth0");
        let trace = ["strace", "-f", "-e", "trace=open,openat,openat2", "-o"];
        let words: Vec<&str> = trace.into_iter().chain(log.to_str()).collect();
        let answer = call.env("CNI_NETNS", "/x").config(&config).under(&words).run()?;
        ensure!(answer.succeeded(), "{verb} failed: {}", answer.stderr);
        let opened = fs::read_to_string(&log)?.lines().filter(|line| line.contains("open")).count();
        ensure!(opened <= 40, "{verb} opened {opened} files");
    }
    ensure!(store::leases(NET)?.len() == 10_001, "{} leases", store::leases(NET)?.len());
    Ok(())
}
