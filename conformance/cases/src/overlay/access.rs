//! How hosts reach etcd: certificates, users, roles, a full database, and what nobody sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::cluster::Cluster;
use harness::cluster::access::{Authority, Usage};
use harness::cluster::etcd::Options;
use harness::cluster::host::Host;
use harness::config::with;
use harness::room::Room;
use harness::room::call::Answer;
use serde_json::{Value, json};

use super::{AMPLE, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/replaced_certificates_are_used_without_a_restart", &["O-075"], certificates)
        .needs(HOSTS),
    Case::new("overlay/a_refused_host_stays_alive_and_works_again_by_itself", &["O-075"], users).needs(HOSTS),
    Case::new("overlay/a_refused_certificate_is_explained", &["O-076"], explained).needs(HOSTS),
    Case::new("overlay/a_full_etcd_stops_no_add_and_recovers", &["O-080"], full).needs(HOSTS),
    Case::new("overlay/no_secret_of_etcd_is_seen", &["O-077"], secrets).needs(HOSTS),
];

/// Seconds until a host without a sign of life is silent.
const TTL: u64 = 3;

/// An authority that has signed a member's certificate for this usage, `etcdctl`'s, and a host's.
fn authority(room: &Room, name: &str, usage: Usage) -> Result<Authority> {
    let authority = Authority::new(room.scratch(name))?;
    authority.issue("e1", "/O=moor", "IP:192.0.2.1", usage)?;
    authority.issue("ctl", "/O=moor", "DNS:ctl", Usage::Client)?;
    authority.issue("host", "/O=moor", "DNS:host", Usage::Client)?;
    Ok(authority)
}

/// One member with TLS, and hosts with a certificate of its authority.
fn secured<'r>(room: &'r Room, authority: &Authority, hosts: u8, keys: &Value) -> Result<Cluster<'r>> {
    let options = Options { authority: Some(authority.clone()), ..Options::default() };
    let cluster = Cluster::with(room, 1, hosts, &options)?;
    for host in &cluster.hosts {
        let certified = host.certify(authority, "host")?;
        let keys = with(&with(&certified, json!({"hostTtlS": TTL})), keys.clone());
        host.configure(&cluster.etcd.endpoints(), &keys)?;
    }
    Ok(cluster)
}

fn status(host: &Host) -> Result<Answer> {
    let guest = host.container("status").or_else(|_| host.container("again"))?;
    let config = with(&config(&json!({})), json!({"cniVersion": "1.1.0"}));
    let answer = host.run(host.call("overlay", "STATUS", &guest).config(&config));
    host.remove(&guest)?;
    answer
}

/// STATUS is 50, and its text has these words.
fn faulty(host: &Host, words: &str) -> Result<()> {
    let error = status(host)?.error_code(50)?;
    let text = format!("{} {}", error.msg, error.details);
    ensure!(text.contains(words), "STATUS lacks {words:?}: {text}");
    Ok(())
}

fn attach(host: &Host, verb: &str, id: &str) -> Result<Answer> {
    let guest = host.container(id)?;
    let answer = host.attach("overlay", verb, &guest, &config(&json!({})))?;
    if !answer.succeeded() {
        host.remove(&guest)?;
    }
    Ok(answer)
}

/// ADD fails with code 11 and these words, and leaves no record: as soon as the agent's own attempt
/// to write was refused. Until then etcd may be away for it, which is no reason to fail.
fn refused(cluster: &Cluster, words: &str) -> Result<()> {
    let host = &cluster.hosts[0];
    let attempt = || {
        let guest = host.container("refused")?;
        let answer = host.attach("overlay", "ADD", &guest, &config(&json!({})))?;
        if answer.succeeded() {
            host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
        }
        host.remove(&guest)?;
        answer.error_with(11, words).map(drop)
    };
    cluster.until(SECONDS(8), attempt).map(drop)
}

fn published(cluster: &Cluster, id: &str) -> Result<()> {
    let keys = cluster.etcd.keys("ep/front/")?;
    ensure!(keys.iter().any(|key| key.ends_with(&format!("/{id}@eth0"))), "{id} is not among {keys:?}");
    Ok(())
}

/// The agents' processes.
fn agents(cluster: &Cluster) -> Result<Vec<i32>> {
    let agent = |host: &Host| host.agent()?.with_context(|| format!("{} has no agent", host.name));
    cluster.hosts.iter().map(agent).collect()
}

fn certificates(room: &Room) -> Result<()> {
    let first = authority(room, "first", Usage::Both)?;
    // It leaves out the check of the member's name alone.
    let mut cluster = secured(room, &first, 2, &json!({"insecure": true}))?;
    let (guest, _) = add(&cluster.hosts[0], "a", &config(&json!({})))?;
    let (_, result) = add(&cluster.hosts[1], "b", &config(&json!({})))?;
    cluster.until(SECONDS(2), || guest.reach(&addresses(&result)[0], AMPLE).map(drop))?;
    let before = agents(&cluster)?;
    // The member is another's now: each side refuses the other.
    let second = authority(room, "second", Usage::Both)?;
    second.issue("e1", "/O=moor", "DNS:elsewhere", Usage::Both)?;
    cluster.etcd.all(false)?;
    for file in ["ca.pem", "e1.pem", "e1.key", "ctl.pem", "ctl.key"] {
        fs::copy(second.path(file), first.path(file))?;
    }
    cluster.etcd.all(true)?;
    cluster.until(SECONDS(8), || faulty(&cluster.hosts[0], "check \"ca\""))?;
    refused(&cluster, "check \"ca\"")?;
    guest.reach(&addresses(&result)[0], AMPLE)?;
    for host in &cluster.hosts {
        host.certify(&second, "host")?;
    }
    cluster.until(SECONDS(5), || {
        for host in &cluster.hosts {
            status(host)?.silent()?;
        }
        Ok(())
    })?;
    add(&cluster.hosts[0], "c", &config(&json!({})))?;
    published(&cluster, "c")?;
    ensure!(agents(&cluster)? == before, "an agent was started again");
    Ok(())
}

/// Turns on users: `root` for `etcdctl`, and `host` whose role may read and write the prefix.
fn users_on(cluster: &mut Cluster) -> Result<()> {
    let calls = [
        "user add root:for-tests",
        "user grant-role root root",
        "role add moor",
        "role grant-permission moor --prefix=true readwrite /moor/",
        "user add host:first-word",
        "user grant-role host moor",
        "auth enable",
    ];
    for call in calls {
        cluster.etcd.ctl(&call.split(' ').collect::<Vec<_>>())?;
    }
    cluster.etcd.user = Some("root:for-tests".into());
    Ok(())
}

const LOGIN: fn() -> Value = || json!({"user": "host", "passwordFile": "/etc/moor/password"});

fn users(room: &Room) -> Result<()> {
    let authority = authority(room, "authority", Usage::Both)?;
    let mut cluster = secured(room, &authority, 2, &LOGIN())?;
    users_on(&mut cluster)?;
    for host in &cluster.hosts {
        host.credential("password", b"first-word\n")?;
    }
    for (host, id) in cluster.hosts.iter().zip(["a", "b"]) {
        add(host, id, &config(&json!({})))?;
        published(&cluster, id)?;
    }
    let before = agents(&cluster)?;
    // A member that was restarted knows none of its tokens.
    cluster.etcd.all(false)?;
    cluster.etcd.all(true)?;
    add(&cluster.hosts[0], "c", &config(&json!({})))?;
    cluster.until(SECONDS(8), || published(&cluster, "c"))?;
    let role = |rights: &str| {
        let call = format!("role grant-permission moor --prefix=true {rights} /moor/");
        cluster.etcd.ctl(&call.split(' ').collect::<Vec<_>>()).map(drop)
    };
    role("read")?;
    refused(&cluster, "grant the user a role")?;
    faulty(&cluster.hosts[0], "permission denied")?;
    stays_alive(&cluster)?;
    role("readwrite")?;
    cluster.until(SECONDS(8), || attach(&cluster.hosts[0], "ADD", "d")?.result().map(drop))?;
    published(&cluster, "d")?;
    // Another password ends all tokens of the user.
    set_password(&cluster, "other-word")?;
    cluster.until(SECONDS(12), || faulty(&cluster.hosts[0], "passwordFile"))?;
    stays_alive(&cluster)?;
    for host in &cluster.hosts {
        host.credential("password", b"other-word\n")?;
    }
    cluster.until(SECONDS(5), || attach(&cluster.hosts[0], "ADD", "e")?.result().map(drop))?;
    cluster.until(SECONDS(2), || published(&cluster, "e"))?;
    ensure!(agents(&cluster)? == before, "an agent was started again");
    Ok(())
}

fn set_password(cluster: &Cluster, word: &str) -> Result<()> {
    // It has no option for one.
    cluster.etcd.ctl(&["user", "delete", "host"])?;
    cluster.etcd.ctl(&["user", "add", &format!("host:{word}")])?;
    cluster.etcd.ctl(&["user", "grant-role", "host", "moor"]).map(drop)
}

/// No host falls silent in the time after which one does without a sign of life.
fn stays_alive(cluster: &Cluster) -> Result<()> {
    for _ in 0..=TTL {
        std::thread::sleep(SECONDS(1));
        let alive = cluster.etcd.keys("alive/")?;
        ensure!(alive.len() == cluster.hosts.len(), "alive are {alive:?}");
    }
    Ok(())
}

fn explained(room: &Room) -> Result<()> {
    let authority = authority(room, "authority", Usage::Server)?;
    authority.issue("named", "/CN=host", "DNS:host", Usage::Client)?;
    let mut cluster = secured(room, &authority, 1, &LOGIN())?;
    cluster.hosts[0].credential("password", b"first-word\n")?;
    cluster.until(SECONDS(8), || {
        let told = status(&cluster.hosts[0])?;
        ensure!(told.summary().contains("clientAuth beside serverAuth"), "{}", told.summary());
        Ok(())
    })?;
    authority.issue("e1", "/O=moor", "IP:192.0.2.1", Usage::Both)?;
    cluster.etcd.all(false)?;
    cluster.etcd.all(true)?;
    users_on(&mut cluster)?;
    cluster.hosts[0].certify(&authority, "named")?;
    cluster.until(SECONDS(8), || faulty(&cluster.hosts[0], "without Common Name"))?;
    // The first ADD of a network fails in its IPAM plugin.
    attach(&cluster.hosts[0], "ADD", "refused")?.error_code(11)?;
    cluster.hosts[0].certify(&authority, "host")?;
    cluster.until(SECONDS(5), || status(&cluster.hosts[0])?.silent())?;
    add(&cluster.hosts[0], "a", &config(&json!({})))?;
    published(&cluster, "a")
}

fn full(room: &Room) -> Result<()> {
    let more = vec!["--quota-backend-bytes=8388608".into()];
    let cluster = Cluster::with(room, 1, 2, &Options { more, ..Options::default() })?;
    for host in &cluster.hosts {
        host.configure(&cluster.etcd.endpoints(), &json!({"hostTtlS": TTL}))?;
    }
    let [one, _] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (first, _) = add(one, "a", &config(&json!({})))?;
    add(&cluster.hosts[1], "b", &config(&json!({})))?;
    fill(&cluster)?;
    let (_, result) = add(one, "late", &config(&json!({})))?;
    first.reach(&addresses(&result)[0], AMPLE)?;
    let told = status(one)?;
    ensure!(told.succeeded() && told.stderr.contains("no space"), "STATUS: {}", told.summary());
    let shown = one.overlay(&["status"])?;
    ensure!(text(&shown).contains("no space"), "{}", shown.summary());
    stays_alive(&cluster)?;
    // A deletion needs no space.
    one.attach("overlay", "DEL", &first, &config(&json!({})))?.silent()?;
    cluster.until(SECONDS(2), || match published(&cluster, "a") {
        Ok(()) => bail!("the record of a is still there"),
        Err(_) => Ok(()),
    })?;
    ensure!(published(&cluster, "late").is_err(), "the record of late took space");
    cluster.etcd.ctl(&["del", "--prefix", "filling/"])?;
    cluster.etcd.compact()?;
    cluster.etcd.ctl(&["defrag"])?;
    cluster.etcd.ctl(&["alarm", "disarm"])?;
    cluster.until(SECONDS(8), || published(&cluster, "late"))?;
    cluster.until(SECONDS(8), || {
        let told = status(one)?;
        ensure!(told.succeeded() && told.stderr.is_empty(), "STATUS: {}", told.summary());
        Ok(())
    })?;
    Ok(())
}

/// Writes until etcd takes no more.
fn fill(cluster: &Cluster) -> Result<()> {
    let value = "x".repeat(120_000);
    for number in 0..200 {
        if let Err(error) = cluster.etcd.ctl(&["put", &format!("filling/{number}"), &value]) {
            ensure!(format!("{error:#}").contains("space exceeded"), "{error:#}");
            return Ok(());
        }
    }
    bail!("etcd took everything")
}

fn secrets(room: &Room) -> Result<()> {
    let authority = authority(room, "authority", Usage::Both)?;
    let mut cluster = secured(room, &authority, 1, &LOGIN())?;
    users_on(&mut cluster)?;
    let host = &cluster.hosts[0];
    let log = room.scratch("agent.log");
    host.credential("password", b"wrong-word\n")?;
    // Started here, so that its log is seen.
    let program = room.suite.join("overlay-agent");
    let out = fs::File::create(&log)?;
    let mut agent = host.inside(|| {
        let mut command = std::process::Command::new(&program);
        command.args(["serve"]).stdin(std::process::Stdio::null()).stdout(out.try_clone()?).stderr(out);
        command.spawn().context("start the agent")
    })?;
    let mut seen = vec![];
    cluster.until(SECONDS(8), || {
        let told = status(host)?;
        seen.push(format!("{} {}", text(&told), told.stderr));
        told.error_with(50, "passwordFile").map(drop)
    })?;
    host.credential("password", b"first-word\n")?;
    cluster.until(SECONDS(5), || status(host)?.silent())?;
    let (guest, result) = add(host, "a", &config(&json!({})))?;
    seen.push(result.to_string());
    seen.push(text(&host.overlay(&["status", "--json"])?));
    seen.push(cluster.etcd.ctl(&["get", "--prefix", "/"])?);
    for pid in agents(&cluster)? {
        seen.push(fs::read_to_string(format!("/proc/{pid}/cmdline"))?);
        seen.push(fs::read_to_string(format!("/proc/{pid}/environ"))?);
    }
    host.inside(|| {
        for root in ["/run/moor", "/var/lib/moor", "/var/lib/cni"] {
            files(Path::new(root), &mut seen)?;
        }
        private(Path::new("/run/moor/overlay"))
    })?;
    host.attach("overlay", "DEL", &guest, &config(&json!({})))?.silent()?;
    seen.push(fs::read_to_string(&log)?);
    agent.kill().and_then(|()| agent.wait())?;
    let key = fs::read_to_string(authority.path("host.key"))?;
    let key = key.lines().nth(1).context("the key has no second line")?;
    for secret in ["wrong-word", "first-word", key] {
        let found = seen.iter().find(|text| text.contains(secret));
        ensure!(found.is_none(), "{secret} is in {found:?}");
    }
    Ok(())
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

/// The content of all files below a directory.
fn files(dir: &Path, seen: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => files(&entry.path(), seen)?,
            kind if kind.is_file() => {
                seen.push(String::from_utf8_lossy(&fs::read(entry.path())?).into_owned());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sockets are 0600, in directories that are 0700.
fn private(dir: &Path) -> Result<()> {
    let mut sockets = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let dir = entry?.path();
        let mode =
            |path: &Path| Ok::<_, anyhow::Error>(fs::symlink_metadata(path)?.permissions().mode() & 0o777);
        ensure!(mode(&dir)? == 0o700, "{} has {:o}", dir.display(), mode(&dir)?);
        let socket = dir.join("control.sock");
        ensure!(mode(&socket)? == 0o600, "{} has {:o}", socket.display(), mode(&socket)?);
        sockets += 1;
    }
    ensure!(sockets == 1, "{sockets} agents have a socket");
    Ok(())
}
