//! Leases of DHCPv6 in time: renewed, lost with their server, found again; and addresses that other
//! hosts have.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::dhcp::{NETWORK, NETWORK6, Offer, Server, Software, SuiteDaemon};
use harness::{ip, namespace};
use serde_json::json;

use crate::dhcp_ipv6::{address6, call, config, free, on_link, router, v4};

const SERVER: &[Need] = &[Need::DhcpServers, Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("dhcp/dhcpv6_leases_are_renewed_end_and_come_back", &["DH-V9"], times).needs(SERVER),
    Case::new("dhcp/addresses_of_other_hosts_are_declined", &["DH-V10", "DH-9"], declined).needs(SERVER),
    Case::new("dhcp/hostile_dhcpv6_servers_are_not_believed", &["DH-V11"], hostile).needs(SERVER),
];

/// Seconds of a lease.
const SHORT: u32 = 4;

/// Waits until something holds, for so many seconds of an idle machine.
fn within(seconds: u32, what: &str, server: &Server, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + on_this_machine(Duration::from_secs(seconds.into()));
    while !holds()? {
        ensure!(Instant::now() < deadline, "after {seconds} s not yet: {what}: {}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn has(id: &str, address: &str) -> Result<bool> {
    Ok(on_link(id)?.iter().any(|held| held["local"] == *address))
}

fn times(room: &Room) -> Result<()> {
    let _v4 = v4(room)?;
    let _router = router(room)?;
    let mut server = room.dhcp6_server(Software::Kea, &Offer { lease: SHORT, ..Offer::default() })?;
    let daemon = SuiteDaemon::start(room, &["-resendmax=1s"])?;
    let container = room.container("c1")?;
    let config = config(&json!({"ipv6": "dhcpv6"}));
    let result = call(room, "ADD", &container, &config)?.result().with_context(|| server.log())?;
    let (address, _) = address6(&result)?;
    let kept = |seconds: u32| -> Result<()> {
        let end = Instant::now() + Duration::from_secs(seconds.into());
        while Instant::now() < end {
            ensure!(has("c1", &address)?, "it is not on the link: {}", server.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        ensure!(server.addresses()? == [address.clone()], "{:?}", server.leases()?);
        Ok(())
    };
    kept(SHORT + 2).context("renewed")?;
    drop(daemon);
    let _daemon = SuiteDaemon::start(room, &["-resendmax=1s"])?;
    kept(SHORT + 1).context("after the daemon was killed")?;
    server.stop();
    within(SHORT + 5, "the address is off the link", &server, || Ok(!has("c1", &address)?))?;
    server.start()?;
    within(10, "the address is on the link again", &server, || has("c1", &address))?;
    call(room, "DEL", &container, &config)?.silent()?;
    free(&server)
}

/// The first addresses that both servers lease are taken by another host on the wire.
fn declined(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let offer = Offer { range: (100, 103), ..Offer::default() };
    let v4 = room.dhcp_server(Software::Kea, &offer)?;
    let v6 = room.dhcp6_server(Software::Kea, &offer)?;
    let _router = router(room)?;
    let container = room.container("c1")?;
    // A container on a macvlan does not reach its own host.
    let config = json!({"cniVersion": "1.0.0", "name": "lan", "type": "bridge", "bridge": "lan0",
        "ipam": {"type": "dhcp", "ipv6": "dhcpv6"}});
    ip::script(None, "link add lan0 type bridge\n link set lan0 up\n link set wan0 master lan0")?;
    namespace::allow_ipv6(&["lan0"])?;
    ip::script(
        None,
        &format!("addr add {NETWORK}.100/24 dev lan0\n -6 addr add {NETWORK6}:64/64 dev lan0 nodad"),
    )?;
    let add = || room.attach("bridge", "ADD", &container).config(&config).run();
    let result = add()?.result().with_context(|| format!("{}{}", v4.log(), v6.log()))?;
    let addresses: Vec<&str> = (0..2).filter_map(|nth| result["ips"][nth]["address"].as_str()).collect();
    let (other4, other6) = (format!("{NETWORK}.101/24"), format!("{NETWORK6}:65/64"));
    ensure!(addresses == [&*other4, &*other6], "{result}: {}", v6.log());
    for server in [&v4, &v6] {
        ensure!(server.log().contains("DECLINE"), "{}", server.log());
    }
    room.attach("bridge", "DEL", &container).config(&config).run()?.silent()?;
    free(&v4)?;
    free(&v6)
}

/// A server that answers everything, and each time with one thing wrong.
fn hostile(room: &Room) -> Result<()> {
    let server = v4(room)?;
    let row = ip::link(Some("outside"), "eth0")?.context("no eth0")?;
    let index = u32::try_from(row["ifindex"].as_u64().context("no index")?)?;
    let socket = namespace::inside("outside", || {
        let socket = UdpSocket::bind("[::]:547")?;
        socket.join_multicast_v6(&"ff02::1:2".parse()?, index)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        Ok(socket)
    })?;
    let container = room.container("c1")?;
    let config = config(&json!({"ipv6": "dhcpv6", "timeout": 3}));
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(|| call(room, "ADD", &container, &config));
        let mut answers = 0;
        while !call.is_finished() {
            let mut bytes = [0; 1500];
            let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
            for odd in odd(bytes.get(..length).unwrap_or_default()) {
                socket.send_to(&odd, from)?;
                answers += 1;
            }
        }
        ensure!(answers > 0, "nobody asked");
        call.join().map_err(|_| anyhow::anyhow!("the call panicked"))?
    })?;
    answer.refused("IPv6: no more tries")?;
    call(room, "DEL", &container, &config)?.silent()?;
    free(&server)
}

/// Answers to a solicitation, none of which can be used: each is an offer but for one thing.
fn odd(request: &[u8]) -> Vec<Vec<u8>> {
    let option = |code: u16, value: &[u8]| {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
    };
    // The client's identifier and the number of its address are the first options.
    let (Some(xid), Some(client), Some(number)) =
        (request.get(1..4), request.get(4..26), request.get(30..34))
    else {
        return vec![];
    };
    let server = option(2, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1]);
    let address = |octets: [u8; 16], preferred: u32, valid: u32| {
        let inner = option(5, &[&octets[..], &preferred.to_be_bytes(), &valid.to_be_bytes()].concat());
        option(3, &[number, &[0; 8], &inner].concat())
    };
    let host = [0x20, 1, 0x0d, 0xb8, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66];
    let good = address(host, 60, 60);
    let of = |kind: u8, xid: &[u8], parts: &[&[u8]]| [&[kind], xid, &parts.concat()].concat();
    let mut mapped = [0; 16];
    mapped[15] = 1;
    let mut other = client.to_vec();
    other[10] ^= 1;
    vec![
        of(2, &[0, 0, 0], &[client, &server, &good]),
        of(2, xid, &[&other, &server, &good]),
        of(2, xid, &[client, &good]),
        of(2, xid, &[client, &option(2, &[7; 200]), &good]),
        // A reply that nobody asked for.
        of(7, xid, &[client, &server, &good]),
        of(2, xid, &[client, &server, &address(mapped, 60, 60)]),
        of(2, xid, &[client, &server, &address(host, 61, 60)]),
        of(2, xid, &[client, &server, &address(host, 0, 0)]),
        of(2, xid, &[client, &server, &good, &option(13, b"\0\x01no")]),
        of(2, xid, &[client, &server, &good, &[0, 23, 0xff, 0xff]]),
        of(2, xid, &[client, &server, &option(99, &[0; 1200])]),
    ]
}
