//! What a person waits for: from the runtime's first call until the container's published port has
//! answered the outside, and its name is resolved.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::dns_client::{ID, Question, Reply, client, kind};
use harness::namespace::Container;
use harness::room::Room;
use harness::{cache, ip};
use serde_json::{Value, json};

use super::compared::{Compared, Unit};
use super::contender::{Attachment, REFERENCE};
use super::data_path::serve;
use super::hosts::Host;
use super::scenario::{MEASURED, Scenario, address, names, network};
use crate::stats::turns;

/// Rounds, the time after which there is no new one, and the minimum.
const ROUNDS: usize = 25;
const TIME: Duration = Duration::from_secs(8);
const LEAST: usize = 3;

/// The timeout of a wait, and of one attempt: the next one finds what has become ready.
const PATIENCE: Duration = Duration::from_secs(10);
const ATTEMPT: Duration = Duration::from_millis(100);

/// The host's address outside, and the outside's own.
const HOST: &str = "198.51.100.1";
const OUTSIDE: &str = "198.51.100.2";

/// The container's name.
const NAME: &str = "web";

/// A host with a container, and an outside.
struct Stage {
    host: Host,
    container: Container,
    outside: Container,
}

/// The job of the room.
pub fn job(room: &Room, before: Option<&Path>) -> Result<Vec<Compared>> {
    let mut compared = Compared::new("a person's wait", Unit::Ms);
    let mut stages = vec![];
    for mut host in Host::all(room, before)? {
        let name = host.contender.name;
        let stage = match name {
            REFERENCE => with_dnsname(room).map(|dir| host.contender.dir = dir),
            _ => Ok(()),
        };
        match stage.and_then(|()| Stage::new(room, host)) {
            Ok(stage) => stages.push(stage),
            Err(why) => compared.not_run(name, &format!("{why:#}")),
        }
    }
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, stages.len()) {
            let stage = &stages[turn];
            let name = stage.host.contender.name;
            compared.push(name, stage.wait(room).with_context(|| format!("{name}: {}", compared.operation))?);
        }
    }
    Ok(vec![compared])
}

/// The reference's plugins with Debian's dnsname beside them.
fn with_dnsname(room: &Room) -> Result<PathBuf> {
    let dnsname = cache::unpacked("dns", "usr/lib/cni/dnsname")?;
    let dir = room.scratch("with-dnsname");
    std::fs::create_dir_all(&dir)?;
    for name in Scenario::Portmap.executables() {
        symlink(room.reference.join(name), dir.join(name))?;
    }
    symlink(dnsname, dir.join("dnsname"))?;
    Ok(dir)
}

impl Stage {
    /// Connects a host with an outside, and attaches a first container, so that the network exists
    /// and its names are served.
    fn new(room: &Room, host: Host) -> Result<Self> {
        let slot = host.contender.slot;
        let container = room.container(&format!("c{slot}"))?;
        let outside = room.container(&format!("out{slot}"))?;
        // An index of its own: see `Room::outside`.
        ip::script(
            Some(&host.name),
            &format!(
                "link add wan0 index 1000 type veth peer name eth0 netns {}
                 addr add {HOST}/24 dev wan0
                 link set wan0 up",
                outside.id
            ),
        )?;
        ip::script(
            Some(&outside.id),
            &format!(
                "link set lo up
                 addr add {OUTSIDE}/24 dev eth0
                 link set eth0 up"
            ),
        )?;
        // It ends with the room.
        room.inside(&container.id, || serve(SocketAddr::from(([0; 4], MEASURED.1))))?;
        let stage = Self { host, container, outside };
        let resident = room.container(&format!("r{slot}"))?;
        room.inside(&stage.host.name, || stage.attachment(&resident, "other", false).run("ADD"))?;
        stage.wait(room)?;
        Ok(stage)
    }

    /// The whole chain with a name: the configuration of names is the same for both suites.
    fn attachment<'a>(&'a self, container: &'a Container, name: &'a str, published: bool) -> Attachment<'a> {
        let contender = &self.host.contender;
        let scenario = if published { Scenario::Portmap } else { Scenario::Masquerade };
        let mut attachment = contender.attachment(scenario, container, "eth0");
        attachment.name = Some(name);
        let mut config = json!({
            "cniVersion": attachment.chain[0]["cniVersion"], "name": network(contender.slot), "domainName": "moor.test",
        });
        if contender.name == REFERENCE {
            config["type"] = "dnsname".into();
        } else {
            config["type"] = "dns".into();
            config["stateDir"] = json!(names(contender.slot));
        }
        attachment.chain.push(config);
        attachment
    }

    /// Attaches, waits for both answers, and detaches: milliseconds.
    fn wait(&self, room: &Room) -> Result<f64> {
        let mut attachment = self.attachment(&self.container, NAME, true);
        let began = Instant::now();
        room.inside(&self.host.name, || attachment.run("ADD"))?;
        let own = own_address(attachment.result.as_ref())?;
        let waited = room
            .inside(&self.outside.id, || until(began, "the published port answers", answered))
            .and_then(|()| {
                let server = SocketAddr::from((address(self.host.contender.slot, 1), 53));
                room.inside(&self.container.id, || {
                    until(began, "the name is resolved", || resolved(server, &own))
                })
            });
        let took = began.elapsed().as_secs_f64() * 1e3;
        room.inside(&self.host.name, || attachment.run("DEL"))?;
        waited.map(|()| took)
    }
}

/// The address that ADD returned.
fn own_address(result: Option<&Value>) -> Result<String> {
    let net = result.and_then(|result| result["ips"][0]["address"].as_str());
    let net = net.context("ADD returned no address")?;
    Ok(net.split('/').next().unwrap_or(net).to_owned())
}

/// Attempts until one succeeds.
fn until(began: Instant, what: &str, mut attempt: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > PATIENCE => {
                return Err(error).with_context(|| format!("not within {} s: {what}", PATIENCE.as_secs()));
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// One byte to the published port and back.
fn answered() -> Result<()> {
    let host: IpAddr = HOST.parse()?;
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(host, MEASURED.0), ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    let mut byte = [0];
    stream.write_all(&byte)?;
    Ok(stream.read_exact(&mut byte)?)
}

/// One question for the container's name.
fn resolved(server: SocketAddr, own: &str) -> Result<()> {
    let socket = client(server)?;
    socket.set_read_timeout(Some(ATTEMPT))?;
    socket.send(&Question::new(NAME, kind::A).message(ID)?)?;
    let mut bytes = vec![0; 512];
    let length = socket.recv(&mut bytes)?;
    bytes.truncate(length);
    let reply = Reply::read(bytes)?;
    ensure!(reply.texts() == [own], "{NAME} is {:?}, not {own}", reply.texts());
    Ok(())
}
