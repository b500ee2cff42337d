//! What our reader takes from the kernel's descriptions, against rtnetlink's parser on descriptions
//! of the same things.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::os::fd::AsFd;

use ipnetwork::IpNetwork;
use netlink::message::Request;
use netlink::socket::Socket;
use netlink::{Address, BridgePort, Link, Netlink, Route};
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::packet_core::{Emitable, Parseable};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    BridgeBooleanOptionFlags, InfoBridge, InfoBridgePort, InfoData, InfoMacVlan, InfoPortData, LinkAttribute,
    LinkInfo, LinkMessage, MacVlanMode,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric};
use sys::network_test;
use sys::testing::{another_network, run};

/// All that the kernel lists for a question, as rtnetlink parses it.
fn parsed<M: Parseable<[u8]>>(kind: u16, question: &dyn Emitable) -> Vec<M> {
    let socket = Socket::open(NETLINK_ROUTE).unwrap();
    socket
        .dump(Request::of(kind, 0, question), |payload, all| {
            all.push(M::parse(payload).unwrap());
            Ok(())
        })
        .unwrap()
}

/// The first attribute that is wanted.
fn find<A, T>(attributes: &[A], wanted: impl Fn(&A) -> Option<T>) -> Option<T> {
    attributes.iter().find_map(wanted)
}

macro_rules! value {
    ($attributes:expr, $variant:path) => {
        find($attributes, |attribute| match attribute {
            $variant(value) => Some(value.clone()),
            _ => None,
        })
    };
}

fn check_link(link: &Link, message: &LinkMessage) {
    let attributes = &message.attributes;
    assert_eq!((link.index, link.flags), (message.header.index, message.header.flags.bits()));
    assert_eq!(Some(&link.name), value!(attributes, LinkAttribute::IfName).as_ref());
    assert_eq!(link.mac.map(|mac| mac.0.to_vec()), value!(attributes, LinkAttribute::Address));
    assert_eq!(Some(link.mtu), value!(attributes, LinkAttribute::Mtu));
    assert_eq!(Some(link.promiscuity), value!(attributes, LinkAttribute::Promiscuity));
    assert_eq!(Some(link.queue_length), value!(attributes, LinkAttribute::TxQueueLen));
    assert_eq!(link.master, value!(attributes, LinkAttribute::Controller));
    assert_eq!(link.peer_index, value!(attributes, LinkAttribute::Link));
    assert_eq!(link.peer_netns_id, value!(attributes, LinkAttribute::LinkNetNsId));
    assert_eq!(link.alias, value!(attributes, LinkAttribute::IfAlias));
    assert_eq!(Some(link.group), value!(attributes, LinkAttribute::Group));
    let info = value!(attributes, LinkAttribute::LinkInfo).unwrap_or_default();
    assert_eq!(link.kind, value!(&info, LinkInfo::Kind).map(|kind| kind.to_string()));
    if let Some(InfoPortData::BridgePort(of)) = value!(&info, LinkInfo::PortData) {
        check_port(link.port.as_ref().unwrap(), &of);
    } else {
        assert_eq!(link.port, None);
    }
    match value!(&info, LinkInfo::Data) {
        Some(InfoData::Bridge(of)) => {
            let options = value!(&of, InfoBridge::MultiBoolOpt).unwrap();
            let quiet = options.value.contains(BridgeBooleanOptionFlags::NoLinkLocalLearn);
            assert_eq!(link.bridge.map(|bridge| bridge.no_link_local_learn), Some(quiet));
        }
        Some(InfoData::MacVlan(of)) => {
            let info = link.macvlan.as_ref().unwrap();
            assert_eq!(value!(&of, InfoMacVlan::Mode), Some(MacVlanMode::Bridge));
            assert_eq!(info.mode, Some(netlink::MacvlanMode::Bridge));
            assert_eq!(Some(info.bc_queue_len), value!(&of, InfoMacVlan::BcQueueLen));
        }
        _ => assert_eq!((link.bridge, &link.macvlan), (None, &None)),
    }
}

fn check_port(port: &BridgePort, of: &[InfoBridgePort]) {
    assert_eq!(Some(port.hairpin), value!(of, InfoBridgePort::HairpinMode));
    assert_eq!(Some(port.isolated), value!(of, InfoBridgePort::Isolated));
    assert_eq!(Some(port.learning), value!(of, InfoBridgePort::Learning));
    assert_eq!(Some(port.state), value!(of, InfoBridgePort::State).map(|state| u8::from(state).into()));
}

fn check_address(address: &Address, message: &AddressMessage) {
    let header = &message.header;
    let attributes = &message.attributes;
    let local = value!(attributes, AddressAttribute::Local);
    let ip = local.or_else(|| value!(attributes, AddressAttribute::Address)).unwrap();
    assert_eq!((address.index, address.scope), (header.index, u8::from(header.scope)));
    assert_eq!(address.net, IpNetwork::new(ip, header.prefix_len).unwrap());
    assert_eq!(Some(address.flags), value!(attributes, AddressAttribute::Flags).map(|flags| flags.bits()));
}

fn check_route(route: &Route, message: &RouteMessage) {
    let header = &message.header;
    let attributes = &message.attributes;
    let ip = |address: RouteAddress| -> IpAddr {
        match address {
            RouteAddress::Inet(ip) => ip.into(),
            RouteAddress::Inet6(ip) => ip.into(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(route.dst.prefix(), header.destination_prefix_length);
    assert_eq!(
        Some(route.dst.ip()).filter(|_| !route.is_default()),
        value!(attributes, RouteAttribute::Destination).map(ip)
    );
    assert_eq!(route.gateway, value!(attributes, RouteAttribute::Gateway).map(ip));
    assert_eq!(route.source, value!(attributes, RouteAttribute::PrefSource).map(ip));
    assert_eq!(route.index, value!(attributes, RouteAttribute::Oif));
    assert_eq!(route.priority, value!(attributes, RouteAttribute::Priority));
    assert_eq!(Some(route.table), value!(attributes, RouteAttribute::Table));
    assert_eq!((route.protocol, route.scope), (u8::from(header.protocol), u8::from(header.scope)));
    assert_eq!(route.kind, u8::from(header.kind));
    let metrics = value!(attributes, RouteAttribute::Metrics).unwrap_or_default();
    assert_eq!(
        (route.mtu, route.advmss),
        (value!(&metrics, RouteMetric::Mtu), value!(&metrics, RouteMetric::Advmss))
    );
}

network_test! {
    fn links_are_read_as_rtnetlink_reads_them() {
        let pod = another_network();
        let netlink = Netlink::open().unwrap();
        run("ip link add br0 type bridge no_linklocal_learn 1");
        run("ip link add veth0 mtu 1400 group 7 type veth peer name veth1");
        run("ip link set veth0 master br0 alias moor up");
        run("ip link set veth0 type bridge_slave hairpin on isolated on learning off");
        run("ip link add macvlan0 link veth1 type macvlan mode bridge bcqueuelen 500");
        netlink.make_netns_id(pod.as_fd()).unwrap();
        netlink
            .create_veth(&netlink::Veth {
                name: "veth2",
                mac: None,
                mtu: None,
                master: None,
                up: false,
                peer: netlink::VethPeer { name: "eth0", mac: None, mtu: None, netns: Some(pod.as_fd()) },
            })
            .unwrap();
        let messages: Vec<LinkMessage> = parsed(libc::RTM_GETLINK, &LinkMessage::default());
        let links = netlink.links().unwrap();
        assert_eq!((links.len(), messages.len()), (6, 6));
        links.iter().zip(&messages).for_each(|(link, message)| check_link(link, message));
    }
}

network_test! {
    fn addresses_and_routes_are_read_as_rtnetlink_reads_them() {
        let netlink = Netlink::open().unwrap();
        run("ip link set lo up");
        run("ip link add br0 up type bridge");
        run("ip address add 10.1.0.2/24 dev br0");
        run("ip address add fd00::2/64 dev br0 nodad");
        run("ip route add 10.9.0.0/16 via 10.1.0.1 src 10.1.0.2 metric 77 mtu 1400 advmss 1300 table 1000");
        run("ip route add default via 10.1.0.1");
        run("ip route add fd09::/32 via fd00::1 metric 78 mtu 1400");
        let messages: Vec<AddressMessage> = parsed(libc::RTM_GETADDR, &AddressMessage::default());
        let addresses = netlink.addresses(None).unwrap();
        assert!(addresses.len() >= 4, "{addresses:?}");
        assert_eq!(addresses.len(), messages.len());
        addresses.iter().zip(&messages).for_each(|(address, message)| check_address(address, message));

        let mut messages = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            messages.extend(parsed::<RouteMessage>(libc::RTM_GETROUTE, &question));
        }
        let routes = netlink.routes(None, None).unwrap();
        assert!(routes.len() > 8, "{routes:?}");
        assert_eq!(routes.len(), messages.len());
        routes.iter().zip(&messages).for_each(|(route, message)| check_route(route, message));
    }
}
