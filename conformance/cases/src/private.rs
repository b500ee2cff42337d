//! No other user can delay a plugin or write its files: they belong to the plugin's user under any
//! umask, every wait for a lock has a timeout, and its error names the holder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::namespace::Container;
use harness::need::{NOBODY, Need};
use harness::patience::{ensure_prompt, on_this_machine};
use harness::room::Room;
use harness::room::call::Answer;
use harness::room::company::Beside;
use harness::stage::portmap::portmap;
use harness::stage::reapply::reapply;
use harness::store::{self, NET};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, mkfifo};
use serde_json::{Value, json};

use crate::host_local::{add, attach};
use crate::masquerade::{masquerade, nft};

pub const CASES: &[Case] = &[
    Case::new("private/no_other_user_can_hold_a_lock", &["HO-10"], no_lock).needs(&[Need::OtherUsers]),
    Case::new("private/a_lock_held_since_before_the_upgrade_blocks_nobody", &["HO-11"], held_before)
        .needs(&[Need::OtherUsers]),
    Case::new("private/files_are_private_under_any_umask", &["HO-12"], umask).needs(&[Need::OtherUsers]),
    Case::new("private/files_of_another_user_are_not_trusted", &["HO-13"], planted)
        .needs(&[Need::OtherUsers]),
    Case::new("private/a_symlinked_directory_is_refused", &["HO-14"], linked),
    Case::new("private/a_lock_timeout_names_a_stopped_plugin", &["HO-15"], stopped),
    Case::new("private/a_lock_timeout_names_the_holder_and_a_retry_succeeds", &["HO-15"], top_locks),
    Case::new("private/an_inner_lock_timeout_names_the_holder_and_a_retry_succeeds", &["HO-15"], inner_locks),
    Case::new("private/an_iptables_lock_timeout_names_the_holder", &["HO-15"], iptables_lock)
        .needs(&[Need::Iptables]),
    Case::new("private/a_lock_holder_in_another_pid_namespace_is_reported", &["HO-15"], elsewhere)
        .needs(&[Need::PidNamespace]),
];

/// The plugins' own directories: one until reboot, one beside the leases.
const KEPT: [&str; 2] = ["/run/moor", "/var/lib/cni/networks/.moor"];
/// The longest that a call waits for a lock.
const BOUND: Duration = Duration::from_secs(28);
/// A call that waits for no lock.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Everything below these directories, and the directories themselves.
fn kept() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = KEPT.iter().map(PathBuf::from).filter(|dir| dir.exists()).collect();
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.is_dir() && !path.is_symlink() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path()));
        }
    }
    found
}

/// Masquerade, a published port and a lease; returns the configurations for DEL.
fn attached(room: &Room, id: &str, port: u16) -> Result<(Container, [Value; 2])> {
    let container = room.container(id)?;
    let bridge = masquerade();
    let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
    let portmap = published(port, &result);
    room.attach("portmap", "ADD", &container).config(&portmap).run()?.result()?;
    Ok((container, [portmap, bridge]))
}

fn published(port: u16, result: &Value) -> Value {
    let mappings = json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
    with(&portmap(mappings, result), json!({"cniVersion": "1.1.0"}))
}

fn detach(room: &Room, container: &Container, configs: &[Value; 2]) -> Result<()> {
    ["portmap", "bridge"].into_iter().zip(configs).try_for_each(|(plugin, config)| {
        room.attach(plugin, "DEL", container).config(config).run()?.silent().context(plugin)
    })
}

fn ensure_private(room: &Room, when: &str) -> Result<()> {
    let kept = kept();
    ensure!(kept.len() > 3, "{when}: nothing is kept but {kept:?}");
    for path in kept {
        let meta = fs::symlink_metadata(&path)?;
        let shown = format!("{when}: {} of user {} has mode {:04o}", path.display(), meta.uid(), meta.mode());
        ensure!(meta.mode() & 0o077 == 0 && meta.uid() == 0 && !meta.is_symlink(), "{shown}");
        ensure!(room.lock_as_user(&path)?.is_none(), "{shown}, and another user locks it");
    }
    Ok(())
}

fn no_lock(room: &Room) -> Result<()> {
    let (container, configs) = attached(room, "c1", 8080)?;
    ensure_private(room, "after ADD")?;
    detach(room, &container, &configs)?;
    ensure_private(room, "after DEL")?;
    // The lock in the directory shared with the reference is not open to all users either.
    ensure!(room.lock_as_user(&Path::new(NET).join("lock"))?.is_none(), "another user locks the leases");
    Ok(())
}

fn open_dir(path: &str, mode: u32) -> Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).with_context(|| format!("open {path}"))
}

fn held_before(room: &Room) -> Result<()> {
    let mut held = vec![];
    for dir in ["/run/moor", "/run/moor/intent", "/run/moor/host-local", "/var/lib/cni/networks/.moor"] {
        open_dir(dir, 0o755)?;
    }
    for file in ["shared-links.lock", "iptables.lock"] {
        let path = Path::new("/run/moor").join(file);
        fs::write(&path, "")?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    for path in kept() {
        // In the hostile world its user may be first.
        held.extend(room.lock_as_user(&path).ok().flatten());
        ensure!(!room.lock_is_free(&path)?, "nobody holds {}", path.display());
    }
    let began = Instant::now();
    let (container, configs) = attached(room, "c1", 8080)?;
    detach(room, &container, &configs)?;
    ensure_prompt("ADD and DEL", began.elapsed(), AT_ONCE)?;
    ensure_private(room, "after the upgrade")
}

fn under_umask(
    room: &Room,
    umask: &str,
    plugin: &str,
    verb: &str,
    of: &Container,
    conf: &Value,
) -> Result<Answer> {
    let words = ["sh".into(), "-c".into(), format!("umask {umask}; exec \"$0\" \"$@\"")];
    room.attach(plugin, verb, of).config(conf).under(&words).run()
}

fn umask(room: &Room) -> Result<()> {
    for umask in ["0", "022", "077", "0777"] {
        let container = room.container(&format!("u{umask}"))?;
        let call = |plugin: &str, verb: &str, config: &Value| {
            under_umask(room, umask, plugin, verb, &container, config)
        };
        let bridge = masquerade();
        let result = call("bridge", "ADD", &bridge)?.result().with_context(|| format!("umask {umask}"))?;
        let ports = published(8080, &result);
        call("portmap", "ADD", &ports)?.result()?;
        call("bridge", "CHECK", &with(&bridge, json!({"prevResult": result})))?.silent()?;
        ensure_private(room, &format!("umask {umask}"))?;
        call("portmap", "DEL", &ports)?.silent()?;
        call("bridge", "DEL", &bridge)?.silent()?;
        ensure_private(room, &format!("umask {umask}, after DEL"))?;
        fs::remove_dir_all("/run/moor")?;
        fs::remove_dir_all("/var/lib/cni/networks")?;
    }
    Ok(())
}

fn planted(room: &Room) -> Result<()> {
    let (container, configs) = attached(room, "c1", 8080)?;
    let records = "/run/moor/intent";
    let of_portmap = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("portmap");
    let own = fs::read_dir(records)?.flatten().find(of_portmap).context("no record of the port")?.path();
    let forged = fs::read_to_string(&own)?.replace(" 8080-8080 ", " 6666-6666 ");
    ensure!(forged.contains("6666"), "a record is {forged}");
    nft("flush ruleset")?;
    // One forged record in an open directory of root's; then a directory that belongs to the other
    // user.
    for of_user in [false, true] {
        open_dir("/run/moor", 0o777)?;
        if of_user {
            fs::rename(records, "/run/moor/away")?;
            fs::create_dir(records)?;
        }
        open_dir(records, 0o777)?;
        let path = Path::new(records).join("portmap-00000000000000000000000000000000");
        fs::write(&path, &forged)?;
        chown(&path, Some(NOBODY), Some(NOBODY))?;
        if of_user {
            chown(records, Some(NOBODY), Some(NOBODY))?;
        }
        let answer = harness::stage::reapply::call(room, "portmap").run()?;
        let rules = harness::ip::output("nft", &["list", "ruleset"])?;
        ensure!(!rules.contains("6666"), "another user's record has published a port: {rules}");
        if answer.succeeded() {
            continue;
        }
        let stderr = answer.stderr;
        ensure!(stderr.contains(records) && stderr.contains(&NOBODY.to_string()), "the error is {stderr:?}");
        fs::remove_dir_all(records)?;
        fs::rename("/run/moor/away", records)?;
    }
    reapply(room, "portmap")?;
    let rules = harness::ip::output("nft", &["list", "ruleset"])?;
    ensure!(rules.contains("8080") && !rules.contains("6666"), "root's own record is not restored: {rules}");
    ensure_private(room, "afterwards")?;
    detach(room, &container, &configs)
}

/// A root that another user could have redirected.
fn linked(room: &Room) -> Result<()> {
    let elsewhere = room.scratch("elsewhere");
    fs::create_dir_all(&elsewhere)?;
    fs::set_permissions(&elsewhere, Permissions::from_mode(0o755))?;
    std::os::unix::fs::symlink(&elsewhere, "/run/moor")?;
    let container = room.container("c1")?;
    let error = room.attach("bridge", "ADD", &container).config(&masquerade()).run()?.error()?;
    ensure!(error.msg.contains("/run/moor"), "{error}");
    let there = fs::read_dir(&elsewhere)?.count();
    ensure!(there == 0, "{there} files were created in the link's target");
    fs::remove_file("/run/moor")?;
    attached(room, "c2", 8080).map(drop)
}

/// A plugin that holds the lock of its network's leases and cannot continue: it reads a pipe
/// without a writer.
fn stuck(room: &Room, config: &Value) -> Result<Beside> {
    let pointer = Path::new(NET).join("last_reserved_ip.0");
    fs::remove_file(&pointer)?;
    mkfifo(&pointer, nix::sys::stat::Mode::S_IRUSR)?;
    let input = room.write("stuck.json", config.to_string())?;
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" <\"$1\""]).arg(room.suite.join("host-local")).arg(input);
    command.env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "stuck").env("CNI_IFNAME", "eth0");
    command.env("CNI_NETNS", "/run/netns/none").env("CNI_PATH", &room.suite);
    let stuck = Beside::start(&mut command)?;
    let deadline = Instant::now() + on_this_machine(AT_ONCE);
    while room.lock_is_free(&Path::new(NET).join("lock"))? {
        ensure!(Instant::now() < deadline, "the plugin does not take its lock");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(stuck.0.id().try_into()?), Signal::SIGSTOP)?;
    Ok(stuck)
}

fn stopped(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "a", &config)?.result()?;
    let stuck = stuck(room, &config)?;
    let pid = stuck.0.id().to_string();
    std::thread::scope(|scope| -> Result<()> {
        let waiting = ["ADD", "DEL", "CHECK"].map(|verb| {
            let config = &config;
            scope.spawn(move || attach(room, verb, "a", config))
        });
        for (verb, call) in ["ADD", "DEL", "CHECK"].into_iter().zip(waiting) {
            let answer = call.join().map_err(|_| anyhow::anyhow!("the caller of {verb} panicked"))??;
            let error = answer.error_code(11).with_context(|| verb.to_owned())?;
            ensure_prompt(verb, answer.took, BOUND)?;
            for word in [&format!("process {pid} ("), "host-local", "stopped"] {
                ensure!(error.msg.contains(word), "{verb} does not name {word:?}: {error}");
            }
        }
        Ok(())
    })?;
    drop(stuck);
    fs::remove_file(Path::new(NET).join("last_reserved_ip.0"))?;
    attach(room, "DEL", "a", &config)?.silent()?;
    ensure!(store::addresses(NET)?.is_empty(), "the retry left {:?}", store::addresses(NET)?);
    Ok(())
}

/// With each of these locks held, calls return in time: with success, or with an error that names
/// the holder.
fn held_by_root(room: &Room, paths: &[PathBuf], call: impl Fn(usize) -> Result<Answer>) -> Result<usize> {
    let mut refused = 0;
    for (n, path) in paths.iter().enumerate() {
        let holder = room.lock_as_root(path)?.with_context(|| format!("lock {}", path.display()))?;
        let answer = call(n).with_context(|| format!("while {} is locked", path.display()))?;
        ensure_prompt(&format!("a call while {} is locked", path.display()), answer.took, BOUND)?;
        if !answer.succeeded() {
            refused += 1;
            let error = answer.error_code(11)?;
            let named = format!("process {} (", holder.0.id());
            ensure!(error.msg.contains(&named) && error.msg.contains(&path.display().to_string()), "{error}");
        }
    }
    Ok(refused)
}

/// Everything kept beside the leases, in its directory or below. The locks of leases and of dns
/// have cases of their own.
fn top_locks(room: &Room) -> Result<()> {
    any_lock(room, |path| KEPT.iter().any(|dir| path.parent() == Some(Path::new(dir))))
}

fn inner_locks(room: &Room) -> Result<()> {
    any_lock(room, |path| KEPT.iter().all(|dir| path.parent() != Some(Path::new(dir))))
}

/// Locks each of them in turn, during an ADD and, if that does not need the lock, a DEL.
fn any_lock(room: &Room, which: impl Fn(&Path) -> bool) -> Result<()> {
    let (container, configs) = attached(room, "c1", 8080)?;
    let mut paths = kept();
    paths.retain(|path| !path.starts_with("/run/moor/dns") && which(path));
    let config = masquerade();
    let others = (0..paths.len()).map(|n| room.container(&format!("w{n}"))).collect::<Result<Vec<_>>>()?;
    let call = |verb: &str, n: usize| room.attach("bridge", verb, &others[n]).config(&config).run();
    let refused = held_by_root(room, &paths, |n| match call("ADD", n)? {
        answer if answer.succeeded() => call("DEL", n),
        answer => Ok(answer),
    })?;
    ensure!(refused > 0, "no call needed a lock of {paths:?}");
    (0..others.len()).try_for_each(|n| call("DEL", n)?.silent().context("a retry"))?;
    detach(room, &container, &configs)?;
    ensure!(store::addresses(NET)?.is_empty(), "left: {:?}", store::addresses(NET)?);
    Ok(())
}

fn iptables_lock(room: &Room) -> Result<()> {
    let config = with(&masquerade(), json!({"ipMasqBackend": "iptables"}));
    let call =
        |verb: &str, container: &Container| room.attach("bridge", verb, container).config(&config).run();
    let containers = [room.container("c1")?, room.container("c2")?];
    call("ADD", &containers[0])?.result()?;
    let mut paths = kept();
    paths.retain(|path| {
        path.to_string_lossy().contains("iptables") && path.metadata().is_ok_and(|of| of.len() == 0)
    });
    let refused = held_by_root(room, &paths, |_| call("ADD", &containers[1]))?;
    ensure!(refused == 1, "{refused} calls needed a lock of {paths:?}");
    call("ADD", &containers[1])?.result().context("a retry")?;
    containers.iter().try_for_each(|container| call("DEL", container)?.silent())
}

fn elsewhere(room: &Room) -> Result<()> {
    let config = host_local(USUAL, "10.1.2.0/24");
    add(room, "a", &config)?.result()?;
    // The plugin is in a pid namespace of its own, in which the holder is not visible.
    let _holder = room.lock_as_root(&Path::new(NET).join("lock"))?.context("lock the leases")?;
    let call = room.call("host-local", "DEL").env("CNI_CONTAINERID", "a").env("CNI_IFNAME", "eth0");
    let words = ["unshare", "--pid", "--fork", "--mount-proc"];
    let answer = call.env("CNI_NETNS", "/run/netns/none").config(&config).under(&words).run()?;
    answer.error_with(11, "another pid namespace")?;
    Ok(())
}
