use std::time::Duration;

use dhcproto::v6::{
    self as theirs, DhcpOption, IAAddr, IANA, IAPD, IAPrefix, MessageType, OptionCode, Status, StatusCode,
};
use dhcproto::{Decodable, Decoder, Encodable};
use netlink::Mac;
use proptest::prelude::*;

use super::*;
use crate::client::{Event, Pace};

const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const PACE: Pace = Pace { longest: Duration::from_secs(10) };
const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);

fn ask(prefix: bool) -> Ask {
    Ask::of(b"\0c1/net/eth0", prefix)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A server's answer to a client's message.
#[derive(Clone)]
struct Answer {
    kind: MessageType,
    address: &'static str,
    times: [u32; 4],
    status: Option<Status>,
    prefix: Option<(&'static str, u8)>,
    preference: Option<u8>,
}

const ANSWER: Answer = Answer {
    kind: MessageType::Reply,
    address: "2001:db8:1::5",
    times: [0, 0, 80, 100],
    status: None,
    prefix: None,
    preference: None,
};

impl Answer {
    fn to(&self, request: &[u8]) -> theirs::Message {
        let request = Message::from_bytes(request).unwrap();
        let ask = ask(self.prefix.is_some());
        let mut message = theirs::Message::new_with_id(self.kind, request.xid);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(ask.duid.clone()));
        options.insert(DhcpOption::ServerId(SERVER.to_vec()));
        let [t1, t2, preferred_life, valid_life] = self.times;
        let mut opts = theirs::DhcpOptions::new();
        match self.status {
            Some(status) => opts.insert(DhcpOption::StatusCode(StatusCode { status, msg: "no\n".into() })),
            None => opts.insert(DhcpOption::IAAddr(IAAddr {
                addr: self.address.parse().unwrap(),
                preferred_life,
                valid_life,
                opts: theirs::DhcpOptions::new(),
            })),
        }
        options.insert(DhcpOption::IANA(IANA { id: ask.iaid, t1, t2, opts }));
        if let Some((prefix, prefix_len)) = self.prefix {
            let mut opts = theirs::DhcpOptions::new();
            opts.insert(DhcpOption::IAPrefix(IAPrefix {
                preferred_lifetime: 60,
                valid_lifetime: 90,
                prefix_len,
                prefix_ip: prefix.parse().unwrap(),
                opts: theirs::DhcpOptions::new(),
            }));
            options.insert(DhcpOption::IAPD(IAPD { id: ask.iaid, t1: 0, t2: 0, opts }));
        }
        if let Some(preference) = self.preference {
            options.insert(DhcpOption::Preference(preference));
        }
        options.insert(DhcpOption::DomainNameServers(vec!["2001:db8::53".parse().unwrap()]));
        let search = ["example.org", "a.example"].map(|name| name.parse().unwrap()).to_vec();
        options.insert(DhcpOption::DomainSearchList(search));
        message
    }

    fn bytes(&self, request: &[u8]) -> Vec<u8> {
        self.to(request).to_vec().unwrap()
    }

    /// What the client makes of it.
    fn read(&self) -> Result<Grant, grant::Unusable> {
        let ask = ask(self.prefix.is_some());
        let bytes = self.bytes(&ask.message(Kind::Request, [1, 2, 3], 0, None));
        Grant::of(&Message::from_bytes(&bytes).unwrap(), SERVER, &ask)
    }
}

#[test]
fn another_codec_reads_what_is_written() {
    let ask = ask(true);
    let granted = Answer { prefix: Some(("2001:db8:d::", 56)), ..ANSWER }.read().unwrap();
    let bytes = ask.message(Kind::Renew, [1, 2, 3], 7, Some(&granted));
    let message = theirs::Message::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!((message.msg_type(), message.xid()), (MessageType::Renew, [1, 2, 3]));
    let option = |code| message.opts().get(code).unwrap();
    assert_eq!(option(OptionCode::ClientId), &DhcpOption::ClientId(ask.duid.clone()));
    assert_eq!(option(OptionCode::ServerId), &DhcpOption::ServerId(SERVER.to_vec()));
    assert_eq!(option(OptionCode::ElapsedTime), &DhcpOption::ElapsedTime(7));
    let DhcpOption::IANA(na) = option(OptionCode::IANA) else { panic!() };
    let Some(DhcpOption::IAAddr(address)) = na.opts.get(OptionCode::IAAddr) else { panic!() };
    assert_eq!((na.id, address.addr), (ask.iaid, granted.address));
    let DhcpOption::IAPD(pd) = option(OptionCode::IAPD) else { panic!() };
    let Some(DhcpOption::IAPrefix(prefix)) = pd.opts.get(OptionCode::IAPrefix) else { panic!() };
    assert_eq!((prefix.prefix_ip, prefix.prefix_len), ("2001:db8:d::".parse().unwrap(), 56));
    assert!(message.opts().get(OptionCode::ORO).is_some());
    assert!(message.opts().get(OptionCode::RapidCommit).is_none());
}

#[test]
fn what_another_codec_writes_is_granted() {
    let granted = Answer { prefix: Some(("2001:db8:d::", 56)), ..ANSWER }.read().unwrap();
    assert_eq!(granted.address, "2001:db8:1::5".parse::<std::net::Ipv6Addr>().unwrap());
    assert_eq!((granted.lease, granted.preferred, granted.t1, granted.t2), (Some(100), 80, 40, 64));
    assert_eq!(granted.prefix.unwrap().to_string(), "2001:db8:d::/56");
    assert_eq!(granted.name_servers, ["2001:db8::53".parse::<std::net::Ipv6Addr>().unwrap()]);
    assert_eq!(granted.search, ["example.org", "a.example"]);
    assert!(granted.is_sound());
    let infinite = Answer { times: [0, 0, u32::MAX, u32::MAX], ..ANSWER }.read().unwrap();
    assert_eq!((infinite.lease, infinite.t1), (None, u32::MAX));
}

#[test]
fn what_cannot_be_used_is_refused_with_its_reason() {
    for (answer, why) in [
        (Answer { address: "fe80::1", ..ANSWER }, "no host can have"),
        (Answer { address: "ff02::1", ..ANSWER }, "no host can have"),
        (Answer { address: "::ffff:10.0.0.1", ..ANSWER }, "no host can have"),
        (Answer { times: [0, 0, 101, 100], ..ANSWER }, "contradict"),
        (Answer { times: [50, 40, 80, 100], ..ANSWER }, "contradict"),
        (Answer { times: [0, 0, 0, 0], ..ANSWER }, "is 0"),
        (Answer { status: Some(Status::NoAddrsAvail), ..ANSWER }, "NoAddrsAvail: no"),
        (Answer { prefix: Some(("2001:db8:d::1", 56)), ..ANSWER }, "no prefix"),
        (Answer { prefix: Some(("fe80::", 64)), ..ANSWER }, "no prefix"),
        (Answer { prefix: Some(("::", 0)), ..ANSWER }, "no prefix"),
    ] {
        let text = answer.read().unwrap_err().to_string();
        assert!(text.contains(why) && !text.contains('\n'), "{text}");
    }
}

#[test]
fn a_duid_is_of_the_client_identifier_alone() {
    let (one, other) = (Ask::of(b"\0c1/net/eth0", false), Ask::of(b"\0c1/net/eth1", false));
    assert_eq!(one, Ask::of(b"\0c1/net/eth0", false));
    assert_ne!(one.duid, other.duid);
    assert_eq!((one.duid.len(), &one.duid[..2]), (18, &[0, 4][..]));
}

fn kind(bytes: &[u8]) -> Kind {
    Message::from_bytes(bytes).unwrap().kind
}

#[test]
fn the_preferred_offer_is_asked_for_and_granted() {
    let mut client = Client::select(ask(false), PACE, None, seconds(100));
    let solicit = client.transmit(seconds(100));
    assert_eq!(kind(&solicit), Kind::Solicit);
    let offer = Answer { kind: MessageType::Advertise, ..ANSWER };
    let heard = client.receive(&offer.bytes(&solicit), seconds(101));
    assert!(matches!(heard, Some(Event::Offered(_))));
    assert_eq!(client.due(), seconds(101) + Duration::from_millis(100));
    assert_eq!(client.receive(&offer.bytes(&solicit), seconds(101)), None, "it is not better");
    let best = Answer { preference: Some(255), address: "2001:db8:1::9", ..offer };
    assert!(matches!(client.receive(&best.bytes(&solicit), seconds(101)), Some(Event::Offered(_))));
    assert_eq!(client.due(), seconds(101));
    let request = client.transmit(seconds(101));
    assert_eq!(kind(&request), Kind::Request);
    let reply = Answer { address: "2001:db8:1::9", ..ANSWER };
    let Some(Event::Granted(grant, since)) = client.receive(&reply.bytes(&request), seconds(102)) else {
        panic!("no grant")
    };
    assert_eq!((grant.address, since), ("2001:db8:1::9".parse().unwrap(), seconds(101)));
}

#[test]
fn messages_to_others_and_of_others_are_nothing() {
    let mut client = Client::select(ask(false), PACE, None, seconds(100));
    let solicit = client.transmit(seconds(100));
    let offer = Answer { kind: MessageType::Advertise, ..ANSWER };
    let changed = |change: fn(&mut theirs::Message)| {
        let mut message = offer.to(&solicit);
        change(&mut message);
        message.to_vec().unwrap()
    };
    for odd in [
        changed(|message| {
            let [a, b, c] = message.xid();
            message.set_xid([a ^ 1, b, c]);
        }),
        changed(|message| {
            message.opts_mut().remove(OptionCode::ClientId);
            message.opts_mut().insert(DhcpOption::ClientId(vec![0, 4, 1]));
        }),
        changed(|message| drop(message.opts_mut().remove(OptionCode::ServerId))),
        changed(|message| {
            message.opts_mut().remove(OptionCode::ServerId);
            message.opts_mut().insert(DhcpOption::ServerId(vec![0; 131]));
        }),
        changed(|message| {
            message.set_msg_type(MessageType::Reply);
        }),
    ] {
        assert_eq!(client.receive(&odd, seconds(100)), None);
    }
    client.receive(&offer.bytes(&solicit), seconds(100));
    let request = client.transmit(seconds(101));
    let mut other = ANSWER.to(&request);
    other.opts_mut().remove(OptionCode::ServerId);
    other.opts_mut().insert(DhcpOption::ServerId(vec![0, 3, 9]));
    assert_eq!(client.receive(&other.to_vec().unwrap(), seconds(101)), None, "it made no offer");
}

#[test]
fn a_server_that_forgot_is_asked_anew_and_a_refusal_ends() {
    let grant = ANSWER.read().unwrap();
    let mut client = Client::renew(ask(false), PACE, grant.clone(), seconds(40));
    let renew = client.transmit(seconds(40));
    assert_eq!((kind(&renew), client.is_renewal()), (Kind::Renew, true));
    let failure = Answer { status: Some(Status::UnspecFail), ..ANSWER };
    assert_eq!(client.receive(&failure.bytes(&renew), seconds(40)), None, "it may pass");
    let forgot = Answer { status: Some(Status::NoBinding), ..ANSWER };
    assert_eq!(client.receive(&forgot.bytes(&renew), seconds(40)), None);
    let request = client.transmit(seconds(41));
    assert_eq!((kind(&request), client.is_renewal()), (Kind::Request, true));
    let refusal = Answer { status: Some(Status::NotOnLink), ..ANSWER };
    let refused = client.receive(&refusal.bytes(&request), seconds(41));
    assert_eq!(refused, Some(Event::Refused("the server refused: NotOnLink: no".into())));
    let mut client = Client::rebind(ask(false), PACE, grant, seconds(64));
    let rebind = client.transmit(seconds(64));
    let message = Message::from_bytes(&rebind).unwrap();
    assert_eq!((message.kind, message.options.get(message::option::SERVER_ID)), (Kind::Rebind, None));
    let ended = Answer { times: [0; 4], ..ANSWER };
    assert!(matches!(client.receive(&ended.bytes(&rebind), seconds(64)), Some(Event::Refused(_))));
}

/// The frame of a router's advertisement with these options.
fn advertisement(flags: u8, lifetime: u16, options: &[u8]) -> Vec<u8> {
    let mut frame = advert::solicitation(MAC, "fe80::1".parse().unwrap());
    let mut message = vec![134, 0, 0, 0, 64, flags];
    message.extend(lifetime.to_be_bytes());
    message.extend([0; 8]);
    message.extend(options);
    frame.truncate(54);
    frame[18..20].copy_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let sum = crate::frame::checksum(&[&frame[22..54], &length, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    [frame, message].concat()
}

fn options() -> Vec<u8> {
    let prefix =
        [&[3, 4, 64, 0xc0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 0][..], &[0x20, 1, 0x0d, 0xb8], &[0; 12]];
    let mtu = [5, 1, 0, 0, 0, 0, 0x05, 0x78];
    let dns = [&[25, 3, 0, 0, 0, 0, 0, 60][..], &[0xfe, 0x80], &[0; 13], &[0x53]].concat();
    let search = [&[31, 2, 0, 0, 0, 0, 0, 60][..], b"\x01a\x02de\0\0\0"].concat();
    [prefix.concat(), mtu.to_vec(), dns, search].concat()
}

#[test]
fn an_advertisement_is_read() {
    let advert = Advert::of_frame(&advertisement(0x88, 30, &options())).unwrap();
    assert_eq!(
        (advert.is_default, advert.managed, advert.preference, advert.mtu),
        (true, true, 1, Some(1400))
    );
    let mut heard = Heard::default();
    heard.add(advert);
    assert_eq!(heard.default_router(), Some("fe80::1".parse().unwrap()));
    assert_eq!(heard.autonomous().collect::<Vec<_>>(), ["2001:db8::/64".parse().unwrap()]);
    assert_eq!(heard.on_link("2001:db8::9".parse().unwrap()), Some(64));
    assert_eq!(heard.on_link("2001:db9::9".parse().unwrap()), None);
    assert_eq!(heard.name_servers("eth0"), ["fe80::53%eth0"]);
    assert_eq!(heard.search().collect::<Vec<_>>(), ["a.de"]);
    heard.add(Advert::of_frame(&advertisement(0, 0, &[])).unwrap());
    assert_eq!((heard.default_router(), heard.autonomous().count()), (None, 0), "the last one counts");
}

#[test]
fn packets_from_afar_and_malformed_ones_are_no_advertisements() {
    let frame = advertisement(0, 30, &options());
    // Hop limit, source, checksum, an option's length.
    for (at, value) in [(21, 254), (22, 0x20), (56, 7), (71, 0)] {
        let mut odd = frame.clone();
        odd[at] = value;
        assert_eq!(Advert::of_frame(&odd), None, "{at}");
    }
    assert_eq!(Advert::of_frame(&advertisement(0, 30, &[3, 0])), None);
    assert_eq!(Advert::of_frame(&advertisement(0, 30, &[3, 4, 64])), None);
}

#[test]
fn a_flood_of_routers_and_prefixes_is_bounded() {
    let mut heard = Heard::default();
    for router in 1..1000u16 {
        let prefixes: Vec<u8> = (0..40u8)
            .flat_map(|n| {
                [&[3, 4, 64, 0xc0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 0, 0x20, 1, n][..], &[0; 13]].concat()
            })
            .collect();
        let advert = Advert::of_frame(&advertisement(0, 30, &prefixes)).unwrap();
        heard.add(Advert { router: std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, router), ..advert });
    }
    assert_eq!((heard.routers().count(), heard.autonomous().count()), (8, 8 * 16));
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..150) {
        if let Some(message) = Message::from_bytes(&bytes) {
            let _ = Grant::of(&message, SERVER, &ask(true));
        }
        let mut answer = Answer { prefix: Some(("2001:db8:d::", 56)), ..ANSWER }.bytes(&[3, 1, 2, 3]);
        let end = answer.len().min(at + bytes.len());
        answer.splice(at.min(end)..end, bytes.iter().copied().take(4));
        if let Some(message) = Message::from_bytes(&answer)
            && let Ok(grant) = Grant::of(&message, SERVER, &ask(true))
        {
            prop_assert!(grant.is_sound(), "{grant:?}");
        }
        let _ = Advert::of_frame(&advertisement(0, 30, &bytes));
    }
}
