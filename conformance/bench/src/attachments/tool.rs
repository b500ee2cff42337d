//! What a person waits for `moor`, on a host with many networks, attachments and leases.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::room::Room;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::json;

use super::compared::{Compared, Unit};
use super::contender::{OURS, TOOL};
use super::peak;

/// How many there are of each.
const NETWORKS: u16 = 100;
const ATTACHMENTS: usize = 1000;
const LEASES: u32 = 60_000;
/// Rounds of a command, and the time after which it has no new one.
const ROUNDS: usize = 50;
const TIME: Duration = Duration::from_secs(5);

/// Where the room's host has its files.
const NET_D: &str = "/etc/cni/net.d";
const CACHE: &str = "/var/lib/cni";

/// A command, and the longest time that it may take.
struct Asked {
    arguments: &'static [&'static str],
    limit_ms: u16,
}

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    let program = room.suite.join(TOOL);
    if !program.is_file() {
        let mut none = Compared::new("moor", Unit::Ms);
        none.not_run(OURS, "the suite has no moor");
        return Ok(vec![none]);
    }
    write_networks()?;
    let mut all = vec![];
    for (arguments, limit_ms) in
        [(&["--version"][..], 2), (&["completion", "bash"], 2), (&["network", "ls"], 5)]
    {
        all.push(measure(room, &Asked { arguments, limit_ms })?);
    }
    attach(room)?;
    all.push(measure(room, &Asked { arguments: &["ps"], limit_ms: 250 })?);
    all.push(memory(room, &["ps"])?);
    write_leases()?;
    all.push(measure(room, &Asked { arguments: &["leases"], limit_ms: 500 })?);
    Ok(all)
}

fn list(name: &str, third: u16) -> Result<Conflist> {
    let subnet = format!("10.{}.{}.0/24", 90 + third / 256, third % 256);
    let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [
        {"type": "bridge", "bridge": format!("many{third}"), "isGateway": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]}},
    ]});
    Conflist::from_bytes(list.to_string().as_bytes()).context("a list")
}

fn write_networks() -> Result<()> {
    fs::create_dir_all(NET_D)?;
    for number in 0..NETWORKS {
        let name = format!("net{number}");
        fs::write(PathBuf::from(NET_D).join(format!("{name}.conflist")), list(&name, number)?.bytes)?;
    }
    Ok(())
}

/// Attaches one container after another, 100 to a network.
fn attach(room: &Room) -> Result<()> {
    let runtime = Runtime::new(vec![room.suite.clone()], CACHE);
    for number in 0..ATTACHMENTS {
        let container = room.container(&format!("many{number}"))?;
        let third = u16::try_from(number / 100)?;
        let netns = container.path.display().to_string();
        let attachment = Attachment::new(container.id, netns, "eth0");
        runtime.add(&list(&format!("net{third}"), third)?, &attachment).context("attach")?;
    }
    Ok(())
}

fn write_leases() -> Result<()> {
    let dir = PathBuf::from(CACHE).join("networks/many");
    fs::create_dir_all(&dir)?;
    for number in 0..LEASES {
        let [_, third, second, last] = number.to_be_bytes();
        let name = format!("10.{}.{second}.{last}", 200 + third);
        fs::write(dir.join(name), format!("container-{number}\r\neth0"))?;
    }
    Ok(())
}

fn command(room: &Room, words: &[OsString]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("a command")?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("CNI_PATH", &room.suite);
    command.stdin(Stdio::null()).stdout(fs::File::create(room.scratch("tool.out"))?).stderr(Stdio::null());
    Ok(command)
}

fn words(room: &Room, arguments: &[&str]) -> Vec<OsString> {
    let program = room.suite.join(TOOL).into_os_string();
    [program].into_iter().chain(arguments.iter().map(OsString::from)).collect()
}

fn measure(room: &Room, asked: &Asked) -> Result<Compared> {
    let mut compared = Compared::new(&format!("moor {}", asked.arguments.join(" ")), Unit::Ms);
    let words = words(room, asked.arguments);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        if began.elapsed() > TIME {
            break;
        }
        let mut command = command(room, &words)?;
        let started = Instant::now();
        let status = command.status().context("start moor")?;
        let took = started.elapsed();
        // 3: the room is not the whole machine, and the answer reports it.
        ensure!(matches!(status.code(), Some(0 | 3)), "moor {:?}: {status}", asked.arguments);
        compared.push(OURS, took.as_secs_f64() * 1e3);
        compared.push(&format!("{} ms", asked.limit_ms), f64::from(asked.limit_ms));
    }
    Ok(compared)
}

/// The peak of resident memory, to the limit.
fn memory(room: &Room, arguments: &[&str]) -> Result<Compared> {
    let mut compared = Compared::new(&format!("moor {}: memory", arguments.join(" ")), Unit::Factor);
    let traced = [std::env::current_exe()?.into_os_string(), "__traced".into()];
    let words = [&traced[..], &words(room, arguments)].concat();
    let (_, peak_kib) = peak::of(command(room, &words)?)?;
    let mib = u32::try_from(peak_kib)?;
    compared.push(OURS, f64::from(mib) / 1024.0 / 64.0);
    compared.push("64 MiB", 1.0);
    Ok(compared)
}
