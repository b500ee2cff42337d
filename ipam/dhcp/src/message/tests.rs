use dhcproto::v4::{DhcpOption, Message as Theirs, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};
use proptest::prelude::*;

use super::*;

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);

fn message(kind: Kind, options: Vec<(u8, Vec<u8>)>) -> Message {
    Message {
        kind,
        xid: 0x0102_0304,
        secs: 7,
        broadcast: true,
        ciaddr: Ipv4Addr::new(10, 1, 2, 3),
        yiaddr: Ipv4Addr::UNSPECIFIED,
        chaddr: MAC,
        options,
    }
}

/// As a server's: what a client writes, with the other `op`.
fn replied(message: &Message) -> Vec<u8> {
    let mut bytes = message.to_bytes();
    bytes[0] = REPLY;
    bytes
}

#[test]
fn another_codec_reads_what_is_written() {
    let options = vec![(option::CLIENT_ID, b"\0id".to_vec()), (option::REQUEST_LIST, vec![1, 3, 121])];
    let bytes = message(Kind::Request, options).to_bytes();
    assert!(bytes.len() >= SHORTEST);
    let theirs = Theirs::decode(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!((theirs.opcode(), theirs.xid(), theirs.secs()), (Opcode::BootRequest, 0x0102_0304, 7));
    assert_eq!((theirs.chaddr(), theirs.ciaddr()), (&MAC.0[..], Ipv4Addr::new(10, 1, 2, 3)));
    assert!(theirs.flags().broadcast());
    assert!(theirs.opts().has_msg_type(MessageType::Request));
    assert_eq!(
        theirs.opts().get(OptionCode::ClientIdentifier),
        Some(&DhcpOption::ClientIdentifier(b"\0id".to_vec()))
    );
    let wanted = [1, 3, 121].map(OptionCode::from).to_vec();
    assert_eq!(
        theirs.opts().get(OptionCode::ParameterRequestList),
        Some(&DhcpOption::ParameterRequestList(wanted))
    );
}

#[test]
fn what_another_codec_writes_is_read() {
    let mut theirs = Theirs::default();
    theirs.set_opcode(Opcode::BootReply).set_xid(9).set_chaddr(&MAC.0);
    theirs.set_yiaddr(Ipv4Addr::new(10, 1, 2, 4));
    let options = theirs.opts_mut();
    options.insert(DhcpOption::MessageType(MessageType::Offer));
    options.insert(DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)));
    options.insert(DhcpOption::AddressLeaseTime(3600));
    options.insert(DhcpOption::Router(vec![Ipv4Addr::new(10, 1, 2, 1)]));
    options.insert(DhcpOption::ClasslessStaticRoute(vec![(
        "192.0.2.0/25".parse().unwrap(),
        Ipv4Addr::new(10, 1, 2, 9),
    )]));
    let search = ["example.org", "sub.example.org"].map(|name| name.parse().unwrap()).to_vec();
    options.insert(DhcpOption::DomainSearch(search));
    let ours = Message::from_bytes(&theirs.to_vec().unwrap()).unwrap();
    assert_eq!((ours.kind, ours.xid, ours.chaddr), (Kind::Offer, 9, MAC));
    assert_eq!(ours.yiaddr, Ipv4Addr::new(10, 1, 2, 4));
    assert_eq!(ours.option(option::LEASE_TIME).and_then(option::seconds), Some(3600));
    assert_eq!(option::hosts(ours.option(option::ROUTERS).unwrap()), [Ipv4Addr::new(10, 1, 2, 1)]);
    assert_eq!(
        option::classless_routes(ours.option(option::CLASSLESS_ROUTES).unwrap()).unwrap(),
        [("192.0.2.0/25".parse().unwrap(), Ipv4Addr::new(10, 1, 2, 9))]
    );
    let search = name::list(ours.option(option::DOMAIN_SEARCH).unwrap());
    assert_eq!(search, ["example.org", "sub.example.org"]);
}

/// RFC 3396, and RFC 2132, section 9.3.
#[test]
fn options_are_continued_and_found_in_other_fields() {
    let long = vec![7; 600];
    let read = Message::from_bytes(&replied(&message(Kind::Ack, vec![(250, long.clone())]))).unwrap();
    assert_eq!(read.option(250), Some(&long[..]));
    let mut bytes = replied(&message(Kind::Ack, vec![(option::OVERLOAD, vec![3])]));
    bytes[FILE][..4].copy_from_slice(&[250, 2, 1, 2]);
    bytes[SERVER_NAME][..4].copy_from_slice(&[250, 1, 3, option::END]);
    assert_eq!(Message::from_bytes(&bytes).unwrap().option(250), Some(&[1, 2, 3][..]));
}

#[test]
fn only_a_servers_messages_are_read() {
    let sound = replied(&message(Kind::Ack, Vec::new()));
    assert!(Message::from_bytes(&sound).is_some());
    assert!(Message::from_bytes(&message(Kind::Ack, Vec::new()).to_bytes()).is_none(), "a client's");
    for at in [1, 2, 236] {
        let mut odd = sound.clone();
        odd[at] ^= 1;
        assert!(Message::from_bytes(&odd).is_none(), "byte {at}");
    }
    let mut unknown = sound.clone();
    unknown[HEADER + 2] = 99;
    assert!(Message::from_bytes(&unknown).is_none());
    assert!(Message::from_bytes(&sound[..HEADER]).is_none(), "no kind");
}

#[test]
fn routes_of_both_options_are_read() {
    let routes = |value: &[u8]| option::classless_routes(value);
    let router = Ipv4Addr::new(10, 0, 0, 1);
    assert_eq!(
        routes(&[0, 10, 0, 0, 1, 25, 192, 0, 2, 255, 10, 0, 0, 1]).unwrap(),
        [("0.0.0.0/0".parse().unwrap(), router), ("192.0.2.128/25".parse().unwrap(), router)]
    );
    for odd in [&[33, 1, 2, 3, 4, 5, 10, 0, 0, 1][..], &[24, 1, 2], &[0, 10, 0, 0], &[8]] {
        assert_eq!(routes(odd), None, "{odd:?}");
    }
    let pair = |destination: [u8; 4]| [destination, [10, 0, 0, 1]].concat();
    let value = [pair([172, 16, 0, 0]), pair([0; 4]), pair([192, 0, 2, 9]), pair([224, 0, 0, 1])].concat();
    assert_eq!(
        option::static_routes(&value),
        [("172.16.0.0/16".parse().unwrap(), router), ("192.0.2.9/32".parse().unwrap(), router)]
    );
}

#[test]
fn only_names_get_into_a_resolver() {
    assert_eq!(name::of_text(b"example.org.\0").as_deref(), Some("example.org"));
    for odd in [&b""[..], b"a b", b"a\nnameserver 1.2.3.4", b"a..b", b"-a", b"\xff", b"$(x)"] {
        assert_eq!(name::of_text(odd), None, "{odd:?}");
    }
    let label = "a".repeat(64);
    assert_eq!(name::of_text(label.as_bytes()), None);
    // A pointer forward, one to itself, and a label that is cut.
    for odd in [&[0xc0, 2, 1, b'a', 0][..], &[0xc0, 0], &[1, b'a', 0xc0, 0], &[5, b'a']] {
        assert!(name::list(odd).is_empty(), "{odd:?}");
    }
    // "a", and "b" before it by a pointer.
    assert_eq!(name::list(&[1, b'a', 0, 1, b'b', 0xc0, 0]), ["a", "b.a"]);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        xid: u32, secs: u16, options in prop::collection::btree_map(60u8..250, prop::collection::vec(any::<u8>(), 1..300), 0..6),
    ) {
        let options: Vec<_> = options.into_iter().collect();
        let sent = Message { xid, secs, ..message(Kind::Offer, options) };
        prop_assert_eq!(Message::from_bytes(&replied(&sent)), Some(sent));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), overload in 0u8..4) {
        let mut whole = replied(&message(Kind::Ack, vec![(option::OVERLOAD, vec![overload])]));
        whole.truncate(HEADER + 6);
        whole.extend(&bytes);
        let _ = (Message::from_bytes(&whole), Message::from_bytes(&bytes));
        let _ = (name::list(&bytes), name::of_text(&bytes));
        let _ = (option::classless_routes(&bytes), option::static_routes(&bytes), option::hosts(&bytes));
    }
}
