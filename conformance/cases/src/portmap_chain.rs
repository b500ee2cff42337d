//! Published ports in the chain that runtimes call: with no other executables, without IPv6, with
//! another program's firewall, with many containers at once.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::portmap::{HOST, address, answer, bridged, expect, portmap, published, ruleset, serve};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("portmap_chain/runs_only_the_delegate_and_commits_twice_at_most", &["HO-1"], no_program)
        .needs(&[Need::Strace]),
    Case::new("portmap_chain/works_without_any_other_executable", &["HO-2"], bare_root),
    Case::new("portmap_chain/works_on_a_host_with_ipv6_disabled", &["PM-R12"], without_ipv6),
    Case::new("portmap_chain/a_udp_client_at_10_hz_follows_the_container", &["PM-3", "PM-R13"], ten_hertz),
    Case::new(
        "portmap_chain/two_hundred_concurrent_adds_beside_20000_foreign_rules",
        &["C-047", "PM-R15"],
        crowd,
    )
    .needs(&[Need::SendBuffer])
    .alone(),
    Case::new("portmap_chain/a_container_id_of_300_characters_works", &["C-060", "PM-R14"], long_id),
];

fn masqueraded() -> Value {
    with(&bridge(USUAL), json!({"ipMasq": true}))
}

/// The same without IPv6.
fn v4_only() -> Value {
    let mut network = masqueraded();
    network["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/24"}]]);
    network
}

fn tcp(port: u16) -> Value {
    json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}])
}

/// Runs ADD or DEL of the whole chain; the previous result for DEL is in `config`.
fn no_program(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let traced = |plugin: &str, verb: &str, config: &Value| -> Result<(Value, usize, usize)> {
        let log = room.scratch(&format!("{plugin}.{verb}"));
        let file = log.display().to_string();
        let words =
            ["strace", "-f", "-qq", "-s", "40", "-e", "trace=execve,?execveat,sendto,sendmsg", "-o", &file];
        let answer = room.attach(plugin, verb, &container).config(config).under(&words).run()?;
        let result = if verb == "ADD" { answer.result()? } else { answer.silent().map(|()| Value::Null)? };
        let log = fs::read_to_string(&log)?;
        // By the name of the system call: paths may hold any of these strings.
        let call = |line: &str| line.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let programs = log.lines().filter(|line| call(line).starts_with("execve")).count();
        let batches = log.lines().filter(|line| line.contains("NFNL_MSG_BATCH_BEGIN")).count();
        Ok((result, programs, batches))
    };
    let (previous, bridge_programs, bridge_batches) = traced("bridge", "ADD", &masqueraded())?;
    let config = portmap(tcp(8080), &previous);
    let (_, programs, batches) = traced("portmap", "ADD", &config)?;
    // The plugins themselves, and the delegate (none if it is the same executable).
    ensure!(bridge_programs <= 2 && programs == 1, "ADD runs {bridge_programs} and {programs} programs");
    ensure!(bridge_batches + batches <= 2, "ADD commits {bridge_batches} and {batches} times");
    let (_, programs, batches) = traced("portmap", "DEL", &config)?;
    let (_, bridge_programs, bridge_batches) = traced("bridge", "DEL", &masqueraded())?;
    ensure!(bridge_programs <= 2 && programs == 1, "DEL runs {bridge_programs} and {programs} programs");
    ensure!(bridge_batches + batches <= 2, "DEL commits {bridge_batches} and {batches} times");
    Ok(())
}

/// No shell, no iptables, no nft, no library: the plugins and the kernel's own file systems.
fn bare_root(room: &Room) -> Result<()> {
    const BIN: &str = "/opt/cni/bin";
    room.outside(&[])?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let root = room.scratch("root");
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    for dir in [BIN, "/proc", "/run/netns", "/var/lib/cni"] {
        fs::create_dir_all(inside(dir))?;
    }
    for plugin in ["bridge", "host-local", "portmap"] {
        let copy = inside(BIN).join(plugin);
        fs::copy(room.suite.join(plugin), &copy).with_context(|| format!("copy {plugin}"))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    for shown in ["/proc", "/run/netns"] {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(shown), &inside(shown), None::<&str>, flags, None::<&str>)
            .with_context(|| format!("show {shown} in the root"))?;
    }
    let call = |plugin: &str, verb: &str, config: &Value| {
        let call = Call::new(room, Path::new(BIN).join(plugin)).env("CNI_COMMAND", verb).env("CNI_PATH", BIN);
        let call = call.env("CNI_CONTAINERID", &container.id).env("CNI_NETNS", &container.path);
        let answer = call
            .env("CNI_IFNAME", "eth0")
            .config(config)
            .under(&["chroot".as_ref(), root.as_os_str()])
            .run()?;
        ensure!(
            answer.status.code() != Some(127),
            "{plugin} does not start in a root without libraries: is it static, as `make build` makes it?"
        );
        Ok(answer)
    };
    let previous = call("bridge", "ADD", &masqueraded())?.result()?;
    let config = portmap(tcp(8080), &previous);
    call("portmap", "ADD", &config)?.result()?;
    call("portmap", "CHECK", &config)?.silent()?;
    call("bridge", "CHECK", &with(&masqueraded(), json!({"prevResult": previous})))?.silent()?;
    serve(room, "c1", 80)?;
    for (host, outside) in HOST.into_iter().zip(OUTSIDE) {
        expect(room, Some("outside"), host, 8080, &format!("c1:80 {outside}"))?;
    }
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    call("portmap", "DEL", &config)?.silent()?;
    call("bridge", "DEL", &masqueraded())?.silent()?;
    // The files in the new root differ from the room's.
    for shown in ["/proc", "/run/netns"] {
        umount2(&inside(shown), MntFlags::MNT_DETACH).with_context(|| format!("unmount {shown}"))?;
    }
    room.ensure_nothing_left(&before, &["c1"])?;
    let leases = fs::read_dir(inside("/var/lib/cni/networks/net"))?.flatten();
    let left: Vec<_> = leases
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.parse::<IpAddr>().is_ok())
        .collect();
    ensure!(left.is_empty(), "leases are left: {left:?}");
    Ok(())
}

/// As with `net.ipv6.conf.all.disable_ipv6=1` in an administrator's sysctl.d.
fn without_ipv6(room: &Room) -> Result<()> {
    for links in ["all", "default"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{links}/disable_ipv6"), "1")?;
    }
    let network = v4_only();
    let container = room.container("c1")?;
    let before = ruleset()?;
    let previous = room.attach("bridge", "ADD", &container).config(&network).run()?.result()?;
    let config = portmap(tcp(8080), &previous);
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    serve(room, "c1", 80)?;
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    expect(room, None, "10.1.2.1", 8080, "c1:80 10.1.2.1")?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    room.attach("bridge", "DEL", &container).config(&network).run()?.silent()?;
    ensure!(ruleset()? == before, "rules are left");
    Ok(())
}

/// A client that sends a number ten times a second from one port, and records who answered each.
struct Beat {
    stop: AtomicBool,
    sent: AtomicUsize,
}

impl Beat {
    /// The longest part of its life that a case may use: one minute.
    const MOST: usize = 600;
    const INTERVAL: Duration = Duration::from_millis(100);

    fn new() -> Self {
        Self { stop: AtomicBool::new(false), sent: AtomicUsize::new(0) }
    }

    fn run(&self, room: &Room, port: u16) -> Result<Vec<Option<String>>> {
        let socket = room.inside("outside", || {
            let socket = UdpSocket::bind((OUTSIDE[0].parse::<IpAddr>()?, 0))?;
            socket.connect((HOST[0].parse::<IpAddr>()?, port))?;
            Ok(socket)
        })?;
        let mut answers = vec![];
        while !self.stop.load(Ordering::Acquire) && answers.len() < Self::MOST {
            let next = Instant::now() + Self::INTERVAL;
            self.sent.fetch_add(1, Ordering::AcqRel);
            // While there is no container, the next call may return an error from the host.
            let sent = socket.send(b"?").is_ok();
            let mut reply = None;
            loop {
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                socket.set_read_timeout(Some(left))?;
                let mut buffer = [0; 100];
                if let Ok(length) = socket.recv(&mut buffer)
                    && sent
                {
                    reply =
                        Some(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned());
                }
            }
            answers.push(reply);
        }
        Ok(answers)
    }

    /// Waits until it has sent that many more.
    fn beats(&self, more: usize) -> Result<()> {
        let until = self.sent.load(Ordering::Acquire) + more;
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.sent.load(Ordering::Acquire) < until {
            ensure!(Instant::now() < deadline, "the client has stopped");
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// Stops the clients when dropped, however their case ends.
struct Stop<'a>([&'a AtomicBool; 2]);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.store(true, Ordering::Release));
    }
}

fn ten_hertz(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let udp = |port: u16| json!([{"hostPort": port, "containerPort": 53, "protocol": "udp"}]);
    let (first, config) = published(room, "c1", udp(5353))?;
    let (_, staying) = published(room, "c2", udp(5454))?;
    answer(room, "c1", &address(&config, false))?;
    answer(room, "c2", &address(&staying, false))?;
    let (client, unrelated) = (Beat::new(), Beat::new());
    let (heir, mark, answers, others) = std::thread::scope(|scope| -> Result<_> {
        let clients = [scope.spawn(|| client.run(room, 5353)), scope.spawn(|| unrelated.run(room, 5454))];
        let life = || -> Result<(String, usize)> {
            let _stop = Stop([&client.stop, &unrelated.stop]);
            client.beats(5)?;
            room.attach("portmap", "DEL", &first).config(&config).run()?.silent()?;
            room.attach("bridge", "DEL", &first).config(&bridge(USUAL)).run()?.silent()?;
            client.beats(3)?;
            let (container, previous) = bridged(room, "c3")?;
            let moved = portmap(udp(5353), &previous);
            let heir = address(&moved, false);
            answer(room, "c3", &heir)?;
            room.attach("portmap", "ADD", &container).config(&moved).run()?.result()?;
            let mark = client.sent.load(Ordering::Acquire);
            client.beats(12)?;
            Ok((heir, mark))
        };
        let lived = life();
        let [answers, others] = clients.map(|thread| thread.join().map_err(|_| anyhow!("a client panicked")));
        let (heir, mark) = lived?;
        Ok((heir, mark, answers??, others??))
    })?;
    ensure!(heir != address(&config, false), "the container has not moved");
    ensure!(answers.iter().take(3).all(Option::is_some), "no answers before DEL: {answers:?}");
    let after = answers.get(mark..).unwrap_or_default();
    let lost = after.iter().filter(|reply| **reply != Some(format!("c3 {heir}"))).count();
    ensure!(
        after.len() >= 10 && lost <= 1,
        "{lost} of {} packets after ADD were lost: {after:?}",
        after.len()
    );
    let lost = others.iter().filter(|reply| reply.is_none()).count();
    ensure!(lost == 0, "an unrelated client lost {lost} of {} packets", others.len());
    Ok(())
}

fn crowd(room: &Room) -> Result<()> {
    const COUNT: u16 = 200;
    let containers = (0..COUNT).map(|n| room.container(&format!("c{n}"))).collect::<Result<Vec<_>>>()?;
    // The network exists before and after, so that only objects of the containers can be left over.
    let network = bridge(USUAL);
    let resident = room.container("resident")?;
    room.attach("bridge", "ADD", &resident).config(&network).run()?.result()?;
    let (rules, before) = (ruleset()?, room.snapshot()?);
    let foreign: String = (0..20_000)
        .map(|n| {
            format!(
                "add rule inet foreign transit tcp dport {} ip saddr 192.0.2.{} drop\n",
                1 + n / 200,
                n % 200
            )
        })
        .collect();
    let chain =
        "add table inet foreign\nadd chain inet foreign transit { type filter hook forward priority 0; }\n";
    let script = room.write("foreign.nft", format!("{chain}{foreign}"))?;
    ip::output("nft", &["-f", &script.display().to_string()])?;
    let life = |container: &Container, port: u16| -> Result<()> {
        let call = |plugin: &str, verb: &str, config: &Value| {
            room.attach(plugin, verb, container)
                .config(config)
                .run()
                .with_context(|| format!("{plugin} {verb}"))
        };
        let previous = call("bridge", "ADD", &network)?.result()?;
        let config = portmap(tcp(port), &previous);
        call("portmap", "ADD", &config)?.result()?;
        call("portmap", "DEL", &config)?.silent()?;
        call("bridge", "DEL", &network)?.silent()
    };
    std::thread::scope(|scope| -> Result<()> {
        let lives: Vec<_> = (8000..)
            .zip(&containers)
            .map(|(port, container)| scope.spawn(move || life(container, port)))
            .collect();
        let ended = lives.into_iter().map(|life| life.join().map_err(|_| anyhow!("a thread panicked"))?);
        let failed: Vec<String> = ended.filter_map(|done| Some(format!("{:#}", done.err()?))).collect();
        ensure!(failed.is_empty(), "{} of {COUNT} failed: {}", failed.len(), failed.join("\n"));
        Ok(())
    })?;
    ip::output("nft", &["delete", "table", "inet", "foreign"])?;
    ensure!(ruleset()? == rules, "rules are left");
    let ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
    room.ensure_nothing_left(&before, &ids)
}

fn long_id(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = ruleset()?;
    let config = portmap(tcp(8080), &previous);
    // They differ only in the last character and must not be confused.
    let ids = ["a", "b"].map(|last| format!("{}{last}", "c".repeat(299)));
    let call = |verb: &str, id: &str, config: &Value| {
        room.attach("portmap", verb, &container).env("CNI_CONTAINERID", id).config(config).run()
    };
    call("ADD", &ids[0], &config)?.result()?;
    let one = ruleset()?;
    call("CHECK", &ids[0], &config)?.silent()?;
    call("DEL", &ids[1], &config)?.silent()?;
    ensure!(ruleset()? == one, "DEL removed the ports of a container with a similar id");
    call("DEL", &ids[0], &config)?.silent()?;
    ensure!(ruleset()? == before, "rules are left");
    Ok(())
}
