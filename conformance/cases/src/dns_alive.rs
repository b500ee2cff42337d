//! dns: waits are bounded, and nothing that exists is taken for gone.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::{NOBODY, Need};
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::dns::{
    GATEWAYS, INSIDE, Named, RESPONDER, call, dns, expect, kill_responder, records, resolve, responder_pid,
    until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/a_namespace_given_by_process_is_served_while_the_process_lives", &["D-076"], by_process),
    Case::new("dns/another_namespace_at_the_path_is_not_entered", &["D-076"], another_at_the_path),
    Case::new("dns/del_succeeds_while_the_responder_is_stopped", &["D-077"], stopped_del).alone(),
    Case::new("dns/errors_name_a_stopped_responder", &["D-077"], stopped).alone(),
    Case::new("dns/check_passes_despite_lost_packets", &["D-078"], lossy),
    Case::new("dns/removed_records_are_restored", &["D-079"], removed),
    Case::new("dns/records_of_another_user_are_not_trusted", &["D-108"], foreign).needs(&[Need::OtherUsers]),
    Case::new("dns/other_users_cannot_take_its_locks", &["D-108"], private),
    Case::new("dns/check_restores_rules_after_a_firewall_reload", &["D-057", "D-066"], flushed),
];

/// A process in a container's namespace, killed on drop.
struct Inhabitant(Child);

impl Inhabitant {
    fn of(container: &Container) -> Result<Self> {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", container.path.display()))
            .args(["sleep", "600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start a process in the container")?;
        let inhabitant = Self(child);
        let at = inhabitant.namespace();
        let inside = || fs::read_link(&at).ok() == inode(container);
        until(Duration::from_secs(5), "the process is in the container", inside)?;
        Ok(inhabitant)
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The text of a link to the container's namespace.
fn inode(container: &Container) -> Option<std::path::PathBuf> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(&container.path).ok().map(|meta| format!("net:[{}]", meta.ino()).into())
}

/// A container on a macvlan, attached by the path that `path` returns.
fn on_lan(
    room: &Room,
    id: &str,
    path: impl FnOnce(&Container) -> Result<String>,
) -> Result<(Container, Value)> {
    let mut container = room.container(id)?;
    container.path = path(&container)?.into();
    let lan = harness::stage::lan::lan("macvlan", &json!({}));
    let previous = room.attach("macvlan", "ADD", &container).config(&lan).run()?.result()?;
    Ok((container, dns(&previous, json!({"name": "lan"}))))
}

/// Some runtimes keep no directory of namespaces. The responder may not open the path.
fn by_process(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut process = None;
    let (container, config) =
        on_lan(room, "c1", |container| Ok(process.insert(Inhabitant::of(container)?).namespace()))?;
    call(room, "ADD", &container, "web", &config).run()?.result()?;
    let address = harness::stage::portmap::address(&config, false);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        expect(room, Some("c1"), INSIDE, "web", &[&address])?;
        std::thread::sleep(Duration::from_millis(50));
    }
    call(room, "CHECK", &container, "web", &config).run()?.silent()?;
    // The responder's sockets do not outlive a process that ends without DEL.
    drop(process.take());
    let unanswered = || resolve(room, Some("c1"), INSIDE, "web").is_err();
    until(Duration::from_secs(3), "the sockets close with the process", unanswered)
}

/// Paths are reused, above all those of processes.
fn another_at_the_path(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let at = |container: &Container| Ok(container.path.display().to_string());
    let (first, config) = on_lan(room, "c1", at)?;
    call(room, "ADD", &first, "web", &config).run()?.result()?;
    kill_responder()?;
    room.remove(&first)?;
    let second = room.container("c1")?;
    let untouched = |after: &str| -> Result<()> {
        let rules = room.inside("c1", || ip::output("nft", &["list", "ruleset"]))?;
        let links = room.inside("c1", || ip::output("ip", &["-o", "link", "show", "lo"]))?;
        ensure!(rules.trim().is_empty() && !links.contains("UP"), "after {after}: {links}{rules}");
        Ok(())
    };
    // Another container's ADD starts a responder, which reopens the sockets of all
    // containers.
    let (other, theirs) = on_lan(room, "c2", at)?;
    call(room, "ADD", &other, "db", &theirs).run()?.result()?;
    untouched("another's ADD")?;
    call(room, "CHECK", &second, "web", &config).run()?.error_with(999, "not the network namespace")?;
    untouched("CHECK")?;
    call(room, "DEL", &second, "web", &config).run()?.silent()?;
    untouched("DEL")?;
    ensure!(records().len() == 1, "{:?}", records());
    Ok(())
}

/// The stopped responder, as by a debugger or an administrator; continued on drop.
struct Stopped(Pid);

impl Stopped {
    fn now() -> Result<Self> {
        let pid = Pid::from_raw(responder_pid()?.try_into()?);
        kill(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).ok();
    }
}

/// Calls a plugin.
type Run<'a> = &'a dyn Fn() -> Result<Answer>;

/// A call that must not take longer than a runtime waits.
fn within(what: &str, limit: Duration, run: impl FnOnce() -> Result<Answer>) -> Result<Answer> {
    let began = Instant::now();
    let answer = run()?;
    ensure_prompt(what, began.elapsed(), limit).with_context(|| answer.summary())?;
    Ok(answer)
}

fn stopped_del(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "db", json!({}))?];
    let three = Named::add(room, "c3", "x", json!({}))?;
    let stopped = Stopped::now()?;
    for (what, named) in [("DEL", &one), ("its retry", &one), ("another's DEL", &two)] {
        within(what, Duration::from_secs(4), || named.verb(room, "DEL"))?.silent().context(what)?;
    }
    ensure!(records().len() == 1, "{:?}", records());
    let keys = json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": [
        {"containerID": "c3", "ifname": "eth0"}]});
    let gc = || room.call("dns", "GC").config(&with(&one.config, keys)).run();
    within("GC", Duration::from_secs(4), gc)?.silent()?;
    drop(stopped);
    let forgotten = || resolve(room, Some("c3"), GATEWAYS[0], "web.net").is_ok_and(|found| found.is_empty());
    until(Duration::from_secs(2), "the continued responder no longer answers for c3", forgotten)?;
    expect(room, Some("c3"), GATEWAYS[0], "x", &[&three.address(false)])
}

fn stopped(room: &Room) -> Result<()> {
    let one = Named::add(room, "c1", "web", json!({}))?;
    let container = room.container("c2")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, json!({}));
    let before = records();
    let stopped = Stopped::now()?;
    let pid = stopped.0.to_string();
    let status = with(&one.config, json!({"cniVersion": "1.1.0", "prevResult": null}));
    let calls: [(&str, u64, Run<'_>); 3] = [
        ("ADD", 999, &|| call(room, "ADD", &container, "db", &config).run()),
        ("CHECK", 999, &|| one.verb(room, "CHECK")),
        ("STATUS", 51, &|| room.call("dns", "STATUS").config(&status).run()),
    ];
    for (verb, code, run) in calls {
        let error = within(verb, Duration::from_secs(4), run)?.error_code(code).context(verb)?;
        ensure!(error.msg.contains(&pid) && error.msg.contains("stopped"), "{verb}: {error}");
    }
    ensure!(records() == before, "a failed ADD left {:?}", records());
    drop(stopped);
    call(room, "ADD", &container, "db", &config).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "db", &[&harness::stage::portmap::address(&config, false)])?;
    one.verb(room, "CHECK")?.silent()
}

/// Two of three answers are lost on their way, as on a busy host.
fn lossy(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let lose = "add table inet lossy; \
        add chain inet lossy in { type filter hook input priority 0; policy accept; }; \
        add rule inet lossy in udp sport 53 numgen inc mod 3 < 2 drop";
    room.inside("c1", || ip::output("nft", &[lose]))?;
    for _ in 0..3 {
        named.verb(room, "CHECK")?.silent()?;
    }
    named.del(room)
}

/// A firewall reload removes the rule that ADD added; CHECK adds it again.
fn flushed(room: &Room) -> Result<()> {
    let closed = "add table inet fw; add chain inet fw input { type filter hook input priority 0; policy drop; }; \
        add rule inet fw input iif lo accept";
    ip::output("nft", &[closed])?;
    let named = Named::add(room, "c1", "web", json!({}))?;
    for _ in 0..2 {
        ip::output("nft", &["flush ruleset"])?;
        ip::output("nft", &[closed])?;
        named.verb(room, "CHECK")?.silent()?;
        for server in GATEWAYS {
            expect(room, Some("c1"), server, "web", &[&named.address(false)])?;
        }
    }
    named.del(room)
}

/// The directory /run/moor may be deleted at any time.
fn removed(room: &Room) -> Result<()> {
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "db", json!({}))?];
    let before = records();
    for (nth, dir) in ["/run/moor/dns", "/run/moor"].into_iter().enumerate() {
        fs::remove_dir_all(dir)?;
        // Longer than the responder takes to notice changes of records.
        std::thread::sleep(Duration::from_millis(500));
        expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])?;
        let checked = one.verb(room, "CHECK")?;
        ensure!(checked.stderr.contains("its records are written again"), "{}", checked.stderr);
        ensure!(checked.succeeded(), "{}", String::from_utf8_lossy(&checked.stdout));
        ensure!(records() == before, "before {before:?}, now {:?}", records());
        expect(room, Some("c1"), GATEWAYS[0], "db", &[&two.address(false)])?;
        let id = format!("new{nth}");
        let new = Named::add(room, &id, &id, json!({}))?;
        expect(room, Some("c1"), GATEWAYS[0], &id, &[&new.address(false)])?;
        new.del(room)?;
    }
    [&one, &two].into_iter().try_for_each(|named| named.del(room))?;
    ensure!(records().is_empty(), "left behind: {:?}", records());
    fs::remove_dir_all("/run/moor")?;
    let one = Named::add(room, "c3", "web", json!({}))?;
    expect(room, Some("c3"), GATEWAYS[0], "web", &[&one.address(false)])
}

/// The owner of a directory can change it at any time.
fn foreign(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let config = dns(&previous, json!({}));
    fs::create_dir_all("/run/moor/dns")?;
    std::os::unix::fs::chown("/run/moor/dns", Some(NOBODY), Some(NOBODY))?;
    let error = call(room, "ADD", &container, "web", &config).run()?.error()?;
    ensure!(error.to_string().contains("/run/moor/dns"), "{error}");
    std::os::unix::fs::chown("/run/moor/dns", Some(0), Some(0))?;
    call(room, "ADD", &container, "web", &config).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])
}

/// Whatever the umask, and whatever modes an older release left.
fn private(room: &Room) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let named = Named::add(room, "c1", "web", json!({}))?;
    for dir in harness::stage::dns::state_dirs() {
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o755))?;
    }
    let masked = ["sh", "-c", "umask 0; exec \"$@\"", "sh"];
    call(room, "ADD", &named.container, "web", &named.config).under(&masked).run()?.result()?;
    let mut paths = vec![std::path::PathBuf::from("/run/moor/dns")];
    while let Some(path) = paths.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let mode = meta.permissions().mode() & 0o7777;
        let (readable, group) = (path.components().any(|part| part.as_os_str() == "net"), meta.gid());
        let closed = if readable && group == RESPONDER { 0o027 } else { 0o077 };
        ensure!(mode & closed == 0, "{} has mode {mode:04o}, group {group}", path.display());
        if meta.is_dir() {
            paths.extend(fs::read_dir(&path)?.flatten().map(|entry| entry.path()));
        }
    }
    named.verb(room, "CHECK")?.silent()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])
}
