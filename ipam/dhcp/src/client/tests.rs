use super::*;
use crate::ask::client_id;
use crate::message::option;

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);
const SERVER: End = End { mac: Mac([2, 0, 0x5e, 0x10, 0, 2]), ip: Ipv4Addr::new(10, 1, 2, 1) };
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 3);
const PACE: Pace = Pace { longest: Duration::from_secs(10) };

fn ask() -> Ask {
    Ask {
        client_id: client_id("c1", "net", "eth0"),
        provide: Vec::new(),
        wanted: vec![1, 3],
        broadcast: false,
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client's frame, as a server reads it.
fn sent(frame: &[u8]) -> (Message, End, Ipv4Addr) {
    let mut frame = frame.to_vec();
    // The ports and `op` of a server.
    (frame[36], frame[37], frame[42]) = (0, 68, 2);
    let to = Ipv4Addr::from(*frame[30..].first_chunk().unwrap());
    let (from, bytes) = frame::decode(&frame).unwrap();
    (Message::from_bytes(bytes).unwrap(), from, to)
}

/// A server's answer to a message.
fn answer(kind: Kind, to: &Message, lease: u32, server: End) -> Vec<u8> {
    let options = vec![
        (option::SERVER, server.ip.octets().to_vec()),
        (option::SUBNET_MASK, vec![255, 255, 255, 0]),
        (option::LEASE_TIME, lease.to_be_bytes().to_vec()),
        (option::MESSAGE, b"because\n".to_vec()),
    ];
    let message = Message { kind, yiaddr: ADDRESS, options, ..to.clone() };
    let mut bytes = message.to_bytes();
    bytes[0] = 2;
    let mut frame = frame::encode(server, End::EVERYBODY, &bytes);
    frame[37] = 68;
    frame
}

fn select() -> Client {
    Client::select(ask(), MAC, PACE, None, seconds(100))
}

#[test]
fn an_offer_is_asked_for_and_granted() {
    let mut client = select();
    let (discover, from, to) = sent(&client.transmit(seconds(100)));
    assert_eq!((discover.kind, from.ip, to), (Kind::Discover, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!(discover.option(option::CLIENT_ID), Some(&b"\0c1/net/eth0"[..]));
    let offer = answer(Kind::Offer, &discover, 60, SERVER);
    let Some(Event::Offered(offered)) = client.receive(&offer, seconds(101)) else { panic!("no offer") };
    assert_eq!((offered.address, offered.server_mac), (ADDRESS, SERVER.mac.0));
    assert_eq!(client.due(), seconds(101));
    let (request, ..) = sent(&client.transmit(seconds(101)));
    assert_eq!(request.kind, Kind::Request);
    assert_eq!(request.option(option::REQUESTED_ADDRESS).and_then(option::address), Some(ADDRESS));
    assert_eq!(request.option(option::SERVER).and_then(option::address), Some(SERVER.ip));
    let other = End { ip: Ipv4Addr::new(10, 1, 2, 9), ..SERVER };
    assert_eq!(client.receive(&answer(Kind::Ack, &request, 60, other), seconds(102)), None);
    let granted = client.receive(&answer(Kind::Ack, &request, 60, SERVER), seconds(102));
    let Some(Event::Granted(grant, since)) = granted else { panic!("no grant") };
    // The time runs from the request (RFC 2131, section 4.4.1).
    assert_eq!((since, grant.lease, grant.t1, grant.t2), (seconds(101), Some(60), 30, 53));
}

#[test]
fn messages_to_others_are_nothing() {
    let mut client = select();
    let (discover, ..) = sent(&client.transmit(seconds(100)));
    for odd in [
        Message { xid: discover.xid ^ 1, ..discover.clone() },
        Message { chaddr: SERVER.mac, ..discover.clone() },
    ] {
        assert_eq!(client.receive(&answer(Kind::Offer, &odd, 60, SERVER), seconds(100)), None);
    }
    assert_eq!(client.receive(&answer(Kind::Ack, &discover, 60, SERVER), seconds(100)), None);
    assert_eq!(client.receive(&answer(Kind::Offer, &discover, 0, SERVER), seconds(100)), None);
    assert!(client.complaint().unwrap().contains("lease time"));
}

#[test]
fn pauses_double_and_are_bounded() {
    let mut client = select();
    let (mut now, mut pauses) = (seconds(100), Vec::new());
    for _ in 0..8 {
        client.transmit(now);
        pauses.push((client.due() - now).as_millis());
        now = client.due();
    }
    for (pause, around) in pauses.into_iter().zip([1000, 2000, 4000, 8000, 10_000, 10_000, 10_000, 10_000]) {
        assert!((around * 3 / 4..=around * 5 / 4 + around / 50).contains(&pause), "{pause} {around}");
    }
}

#[test]
fn a_refused_or_ignored_request_begins_anew() {
    for refused in [true, false] {
        let mut client = select();
        let (discover, ..) = sent(&client.transmit(seconds(100)));
        client.receive(&answer(Kind::Offer, &discover, 60, SERVER), seconds(100));
        for _ in 0..REQUESTS {
            let (request, ..) = sent(&client.transmit(seconds(101)));
            assert_eq!(request.kind, Kind::Request);
            if refused {
                assert_eq!(client.receive(&answer(Kind::Nak, &request, 60, SERVER), seconds(102)), None);
                break;
            }
        }
        let (again, ..) = sent(&client.transmit(seconds(110)));
        assert_eq!(again.kind, Kind::Discover);
        assert_ne!(again.xid, discover.xid);
        let why = if refused { "10.1.2.1 refused: because" } else { "did not acknowledge" };
        assert!(client.complaint().unwrap().contains(why));
    }
}

#[test]
fn a_renewal_goes_to_its_server_and_a_rebinding_to_all() {
    let mut client = select();
    let (discover, ..) = sent(&client.transmit(seconds(100)));
    let offer = answer(Kind::Offer, &discover, 60, SERVER);
    let Some(Event::Offered(grant)) = client.receive(&offer, seconds(100)) else { panic!("no offer") };
    let mut renewal = Client::renew(ask(), MAC, PACE, *grant.clone(), seconds(130));
    let frame = renewal.transmit(seconds(130));
    assert_eq!(frame[..6], SERVER.mac.0);
    let (request, from, to) = sent(&frame);
    assert_eq!((request.ciaddr, from.ip, to), (ADDRESS, ADDRESS, SERVER.ip));
    assert_eq!((request.option(option::SERVER), request.option(option::REQUESTED_ADDRESS)), (None, None));
    let other = End { ip: Ipv4Addr::new(10, 1, 2, 9), ..SERVER };
    assert_eq!(renewal.receive(&answer(Kind::Nak, &request, 60, other), seconds(131)), None);
    let refused = renewal.receive(&answer(Kind::Nak, &request, 60, SERVER), seconds(131));
    assert_eq!(refused, Some(Event::Refused("10.1.2.1 refused: because".into())));
    let mut rebinding = Client::rebind(ask(), MAC, PACE, *grant, seconds(153));
    let (request, from, to) = sent(&rebinding.transmit(seconds(153)));
    assert_eq!((request.ciaddr, from.ip, to), (ADDRESS, ADDRESS, Ipv4Addr::BROADCAST));
    let granted = rebinding.receive(&answer(Kind::Ack, &request, 60, other), seconds(154));
    assert!(matches!(granted, Some(Event::Granted(grant, _)) if grant.server == other.ip));
}
