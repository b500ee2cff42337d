//! Fields of a packet that rules can examine.

use super::value::Type;

/// Something that a rule can load into a register: of the packet, its metadata, its connection or
/// its route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// Metadata of the packet.
    Meta(Meta),
    /// Data of its connection.
    Ct(Ct),
    /// Bytes of the packet.
    Payload {
        /// The header that the offset counts from.
        header: Header,
        /// The offset, in bytes.
        offset: u8,
        /// The number of bytes.
        length: u8,
    },
    /// The type of the destination address in the routing tables (RTN_*, in host byte order): see
    /// [`LOCAL`].
    FibDaddrType,
}

/// RTN_LOCAL (linux/rtnetlink.h): an address of this host.
pub const LOCAL: u32 = 2;

/// enum nft_meta_keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meta {
    /// Its EtherType (two bytes, big-endian).
    Protocol,
    /// Its mark.
    Mark,
    /// The index of the incoming interface (host byte order).
    Iif,
    /// The index of the outgoing interface (host byte order).
    Oif,
    /// The name of the incoming interface (a port, in a bridge table).
    Iifname,
    /// The name of the outgoing interface.
    Oifname,
    /// Its address family (one byte, [`super::IPV4`] or [`super::IPV6`]).
    Nfproto,
    /// Its transport protocol.
    L4proto,
    /// The bridge of the incoming port.
    BridgeIifname,
}

/// enum nft_ct_keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ct {
    /// The packet's state in its connection: bits (host byte order), see [`STATE_NEW`].
    State,
    /// 0: original direction; 1: reply (one byte).
    Direction,
    /// The connection's status: bits (host byte order), see [`STATUS_DNAT`].
    Status,
    /// The connection's mark.
    Mark,
    /// The IPv4 destination of its first packet, before any translation.
    OriginalDaddr,
    /// The IPv4 destination of its replies, before any translation.
    ReplyDaddr,
}

/// [`Ct::Direction`]: from whoever began the connection.
pub const ORIGINAL: u8 = 0;
/// [`Ct::Direction`]: to whoever began the connection.
pub const REPLY: u8 = 1;
/// [`Ct::State`]: belongs to no valid connection.
pub const STATE_INVALID: u32 = 1;
/// [`Ct::State`]: packets were seen in both directions.
pub const STATE_ESTABLISHED: u32 = 2;
/// [`Ct::State`]: expected by another connection.
pub const STATE_RELATED: u32 = 4;
/// [`Ct::State`]: the first of its connection.
pub const STATE_NEW: u32 = 8;
/// [`Ct::State`]: not tracked, because a rule says so.
pub const STATE_UNTRACKED: u32 = 64;
/// [`Ct::Status`]: IPS_SRC_NAT (linux/netfilter/nf_conntrack_common.h).
pub const STATUS_SNAT: u32 = 0x10;
/// [`Ct::Status`]: IPS_DST_NAT.
pub const STATUS_DNAT: u32 = 0x20;

/// enum nft_payload_bases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Header {
    /// Ethernet.
    Link,
    /// IPv4 or IPv6.
    Network,
    /// TCP, UDP, …
    Transport,
}

impl Field {
    /// meta l4proto.
    pub const L4PROTO: Self = Self::Meta(Meta::L4proto);
    /// meta nfproto.
    pub const NFPROTO: Self = Self::Meta(Meta::Nfproto);
    /// meta mark.
    pub const MARK: Self = Self::Meta(Meta::Mark);
    /// iifname.
    pub const IIFNAME: Self = Self::Meta(Meta::Iifname);
    /// oifname.
    pub const OIFNAME: Self = Self::Meta(Meta::Oifname);
    /// ip saddr: only for IPv4 packets.
    pub const IP_SADDR: Self = Self::Payload { header: Header::Network, offset: 12, length: 4 };
    /// ip daddr: only for IPv4 packets.
    pub const IP_DADDR: Self = Self::Payload { header: Header::Network, offset: 16, length: 4 };
    /// ip6 saddr: only for IPv6 packets.
    pub const IP6_SADDR: Self = Self::Payload { header: Header::Network, offset: 8, length: 16 };
    /// ip6 daddr: only for IPv6 packets.
    pub const IP6_DADDR: Self = Self::Payload { header: Header::Network, offset: 24, length: 16 };
    /// th sport: for TCP, UDP and SCTP.
    pub const SPORT: Self = Self::Payload { header: Header::Transport, offset: 0, length: 2 };
    /// th dport: for TCP, UDP and SCTP.
    pub const DPORT: Self = Self::Payload { header: Header::Transport, offset: 2, length: 2 };
    /// arp saddr ip: only for ARP of IPv4 over Ethernet.
    pub const ARP_SADDR: Self = Self::Payload { header: Header::Network, offset: 14, length: 4 };
    /// arp saddr ether.
    pub const ARP_SADDR_ETHER: Self = Self::Payload { header: Header::Network, offset: 8, length: 6 };
    /// icmpv6 type: only for ICMPv6.
    pub const ICMPV6_TYPE: Self = Self::Payload { header: Header::Transport, offset: 0, length: 1 };
    /// The target of a neighbour advertisement: only for these.
    pub const ND_TARGET: Self = Self::Payload { header: Header::Transport, offset: 8, length: 16 };
    /// The first byte of a VXLAN id: only for VXLAN over UDP.
    pub const VXLAN_ID_BEGIN: Self = Self::Payload { header: Header::Transport, offset: 12, length: 1 };
    /// meta protocol: the EtherType.
    pub const PROTOCOL: Self = Self::Meta(Meta::Protocol);
    /// ether saddr.
    pub const ETHER_SADDR: Self = Self::Payload { header: Header::Link, offset: 6, length: 6 };

    /// Its length in bytes.
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Meta(Meta::L4proto | Meta::Nfproto) | Self::Ct(Ct::Direction) => 1,
            Self::Meta(Meta::Protocol) => 2,
            Self::Meta(Meta::Mark | Meta::Iif | Meta::Oif)
            | Self::Ct(Ct::State | Ct::Status | Ct::Mark | Ct::OriginalDaddr | Ct::ReplyDaddr)
            | Self::FibDaddrType => 4,
            Self::Meta(Meta::Iifname | Meta::Oifname | Meta::BridgeIifname) => 16,
            Self::Payload { length, .. } => length as usize,
        }
    }

    /// Whether it can be the part of a key that has this type.
    pub(super) const fn is(self, kind: Type) -> bool {
        self.length() == kind.length()
    }
}

impl Meta {
    const ALL: [(Self, u32); 9] = [
        (Self::Protocol, 1),
        (Self::Mark, 3),
        (Self::Iif, 4),
        (Self::Oif, 5),
        (Self::Iifname, 6),
        (Self::Oifname, 7),
        (Self::Nfproto, 15),
        (Self::L4proto, 16),
        (Self::BridgeIifname, 17),
    ];

    pub(super) fn number(self) -> u32 {
        number(&Self::ALL, self)
    }

    pub(super) fn from_number(key: u32) -> Option<Self> {
        from_number(&Self::ALL, key)
    }
}

impl Ct {
    const ALL: [(Self, u32); 4] =
        [(Self::State, 0), (Self::Direction, 1), (Self::Status, 2), (Self::Mark, 3)];
    /// NFT_CT_DST_IP, which is of one direction (IP_CT_DIR_*).
    const DST_IP: u32 = 20;

    /// The key, and the direction if it is of one.
    pub(super) fn number(self) -> (u32, Option<u8>) {
        match self {
            Self::OriginalDaddr => (Self::DST_IP, Some(ORIGINAL)),
            Self::ReplyDaddr => (Self::DST_IP, Some(REPLY)),
            _ => (number(&Self::ALL, self), None),
        }
    }

    pub(super) fn from_number(key: u32, direction: Option<u8>) -> Option<Self> {
        match (key, direction) {
            (Self::DST_IP, Some(ORIGINAL)) => Some(Self::OriginalDaddr),
            (Self::DST_IP, Some(REPLY)) => Some(Self::ReplyDaddr),
            (_, None) => from_number(&Self::ALL, key),
            _ => None,
        }
    }
}

impl Header {
    const ALL: [(Self, u32); 3] = [(Self::Link, 0), (Self::Network, 1), (Self::Transport, 2)];

    pub(super) fn number(self) -> u32 {
        number(&Self::ALL, self)
    }

    pub(super) fn from_number(base: u32) -> Option<Self> {
        from_number(&Self::ALL, base)
    }
}

/// The tables above contain every variant that has no case of its own.
fn number<T: Copy + PartialEq>(all: &[(T, u32)], this: T) -> u32 {
    all.iter().find(|(one, _)| *one == this).map_or(u32::MAX, |(_, number)| *number)
}

fn from_number<T: Copy>(all: &[(T, u32)], number: u32) -> Option<T> {
    all.iter().find(|(_, one)| *one == number).map(|(this, _)| *this)
}
