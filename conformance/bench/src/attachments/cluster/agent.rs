//! What the agent takes: memory, threads and processor time among many containers, and requests.

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::Cluster;
use harness::cluster::host::Host;
use serde_json::Value;

use super::super::compared::{Compared, Unit};
use super::super::peak;
use super::{Network, limited};

/// How long an idle agent's processor time is counted.
const IDLE: Duration = Duration::from_secs(10);
/// Clock ticks of a second in /proc (`USER_HZ`).
const TICKS: f64 = 100.0;

/// The rows, of the first host, which is idle but for [`Network::front`]'s remote containers.
pub fn rows(cluster: &Cluster<'_>) -> Result<Vec<Compared>> {
    let host = cluster.hosts.first().context("a host")?;
    let mut rows = among(host, "2,000 containers")?;
    let [puts, deletions] = requests(cluster)?;
    let size = fs::metadata(cluster.room.suite.join("overlay-agent")).context("the agent's file")?.len();
    rows.extend([
        ratio("changes of etcd by an ADD", puts, "1 change"),
        ratio("changes of etcd by a DEL", deletions, "1 change"),
        ratio("agent's executable", f64::from(u32::try_from(size)?) / 3.4e6, "3.4 MB"),
        ratio("memory of ADD", peak_of_add(cluster)? / 3e6, "3 MB"),
    ]);
    Ok(rows)
}

/// The rows of an idle agent among others.
pub fn among(host: &Host<'_>, others: &str) -> Result<Vec<Compared>> {
    let pid = host.agent()?.context("no agent runs")?;
    let resident = field(pid, "VmRSS:")? / 1024.0;
    let threads = field(pid, "Threads:")?;
    let before = busy(pid)?;
    std::thread::sleep(IDLE);
    let share = (busy(pid)? - before) / IDLE.as_secs_f64();
    Ok(vec![
        ratio(&format!("agent's memory among {others}"), resident / 12.0, "12 MiB"),
        ratio(&format!("agent's threads among {others}"), threads / 3.0, "3 threads"),
        ratio(&format!("idle agent's processor time among {others}"), share / 0.003, "0.3 % of a core"),
    ])
}

fn ratio(operation: &str, value: f64, limit: &str) -> Compared {
    limited(&format!("overlay: {operation}"), Unit::Factor, value, (limit, 1.0))
}

/// A number of /proc/PID/status.
fn field(pid: i32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| status.clone())?;
    line.split_whitespace().next().unwrap_or_default().parse().with_context(|| format!("{name} {line}"))
}

/// The processor time of a process so far, in seconds.
fn busy(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may have spaces. utime and stime are the 14th and 15th field (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(") ").with_context(|| stat.clone())?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<std::result::Result<f64, _>>()? / TICKS)
}

/// By how much an ADD, and its DEL, raise etcd's revision.
fn requests(cluster: &Cluster<'_>) -> Result<[f64; 2]> {
    let host = cluster.hosts.first().context("a host")?;
    let (network, guest) = (Network::front(), host.container("counted")?);
    let before = revision(cluster)?;
    network.add(host, &guest)?;
    let added = settled(cluster, before)?;
    network.del(host, &guest)?;
    let deleted = settled(cluster, added)?;
    host.remove(&guest)?;
    Ok([added - before, deleted - added])
}

/// The revision once it has changed and stays.
fn settled(cluster: &Cluster<'_>, from: f64) -> Result<f64> {
    let mut last = from;
    cluster.until(Duration::from_secs(5), || {
        let now = revision(cluster)?;
        let stays = now > from && now.to_bits() == last.to_bits();
        last = now;
        std::thread::sleep(Duration::from_millis(300));
        anyhow::ensure!(stays, "the revision is {now}, after {from}");
        Ok(())
    })?;
    Ok(last)
}

fn revision(cluster: &Cluster<'_>) -> Result<f64> {
    let text = cluster.etcd.ctl(&["get", "--write-out=json", "/moor/1/none"])?;
    let answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    answer["header"]["revision"].as_f64().with_context(|| format!("{answer} has no revision"))
}

/// The peak of resident memory of an ADD, in bytes.
fn peak_of_add(cluster: &Cluster<'_>) -> Result<f64> {
    let host = cluster.hosts.first().context("a host")?;
    let (network, guest) = (Network::front(), host.container("peak")?);
    let program = cluster.room.suite.join("overlay");
    let words: [OsString; 3] =
        [std::env::current_exe()?.into_os_string(), "__traced".into(), program.into_os_string()];
    let (succeeded, kib) = host.inside(|| {
        let stdin = cluster.room.scratch("peak.json");
        fs::write(&stdin, network.config.to_string())?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("CNI_PATH", &cluster.room.suite).env("CNI_COMMAND", "ADD");
        command.env("CNI_CONTAINERID", &guest.id).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", format!("/run/netns/{}", guest.id));
        command.stdin(fs::File::open(stdin)?).stdout(Stdio::null());
        peak::of(command)
    })?;
    anyhow::ensure!(succeeded, "ADD under a tracer failed");
    network.del(host, &guest)?;
    Ok(f64::from(u32::try_from(kib)?) * 1024.0)
}
