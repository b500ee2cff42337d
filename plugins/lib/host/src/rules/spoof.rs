//! The MAC filter: a frame that arrives by a container's bridge port must have the container's MAC
//! address as its source.
//!
//! A frame costs one lookup, or two if its port is filtered, regardless of the number of ports:
//!
//! ```text
//! set ports { type ifname; elements = { "veth01234567" comment "moor/net/eth0/c1" } }
//! set macs  { type ifname . ether_addr;
//!             elements = { "veth01234567" . 02:…:01 comment "moor/net/eth0/c1" } }
//! chain macspoofchk { type filter hook prerouting priority dstnat;
//!                     iifname @ports iifname . ether saddr != @macs drop }
//! ```

use netlink::Mac;
use nft::{
    Base, Batch, Chain, Data, Element, Family, Field, Hook, Kind, Nft, Policy, Rule, Set, Table, Type, Value,
    Verdict,
};
use sys::Result;

use super::{Filled, Group, Left, Owned, Restored, element_drifts, ensure, owned, restore, retire};
use crate::Drift;

/// The table for frames.
pub(super) const TABLE: Table<'static> = Table { family: Family::Bridge, name: "moor" };
const CHAIN: Chain<'static> = Chain { table: TABLE, name: "macspoofchk" };
/// Priority `dstnat` of bridges (NF_BR_PRI_NAT_DST_BRIDGED, linux/netfilter_bridge.h), like the
/// reference's.
const BASE: Base =
    Base { kind: Kind::Filter, hook: Hook::Prerouting, priority: -300, policy: Policy::Accept };
const PORTS: Set<'static> =
    Set { table: TABLE, name: "ports", key: &[Type::Ifname], data: Data::None, interval: false };
const MACS: Set<'static> = Set { name: "macs", key: &[Type::Ifname, Type::Ether], ..PORTS };
pub(super) const SETS: [Set<'static>; 2] = [PORTS, MACS];
const COMMENTED: [(Set<'static>, &str); 2] = [(PORTS, "guarded ports"), (MACS, "what they may send")];

/// A port, and the only source MAC address that it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded<'a> {
    /// Name of the port; it need not exist yet.
    pub port: &'a str,
    /// The container's MAC address.
    pub mac: Mac,
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
}

impl Guarded<'_> {
    /// Adds the elements. Replaces those of an earlier port of this name, which left its filter
    /// behind.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        nft.transact(|nft, batch| {
            ensure(nft, batch, &TABLE, &COMMENTED, &[chain()])?;
            let [port, mac] = self.elements();
            if let Some(stale) = nft.element(&PORTS, &port)? {
                let mut all = nft.elements(&MACS)?;
                let of_port = format!("{} . ", self.port);
                all.retain(|element| element.show(&MACS).starts_with(&of_port));
                batch.del_elements(&MACS, &all);
                batch.del_elements(&PORTS, &[stale]);
            }
            batch.create_elements(&PORTS, &[port]);
            batch.create_elements(&MACS, &[mac]);
            Ok(())
        })
    }

    /// Adds to `batch` what is missing of all of these. Call it inside [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(all: &[Self], nft: &Nft, batch: &mut Batch, restored: &mut Restored) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let elements = all.iter().flat_map(|one| SETS.into_iter().zip(one.elements())).collect();
        let group = Group { table: TABLE, sets: &COMMENTED, chains: &[chain()], elements };
        restore(nft, batch, group, restored)
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let mut drifts = chain().drifts(nft)?;
        drifts.extend(element_drifts(nft, SETS.into_iter().zip(self.elements()), self.label)?);
        Ok(drifts)
    }

    fn elements(&self) -> [Element; 2] {
        let port = Value::new().ifname(self.port);
        [port, port.mac(self.mac)].map(|key| Element::new(key).comment(self.label))
    }
}

/// Adds to `batch` the deletion of the elements with an owner that `is_ours` accepts, up to the
/// limit of one transaction. Call it inside [`Nft::transact`].
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn delete(nft: &Nft, batch: &mut Batch, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<Left> {
    let Some(Owned { elements, is_all, left }) = owned(nft, &SETS, is_ours)? else {
        return Ok(Left::Nothing);
    };
    if is_all {
        retire(nft, batch, &TABLE, &[CHAIN], &SETS)?;
    } else {
        elements.iter().for_each(|(set, ours)| batch.del_elements(set, ours));
    }
    Ok(left)
}

fn chain() -> Filled<'static> {
    let rule = Rule::new()
        .member(&[Field::IIFNAME], &PORTS)
        .not_member(&[Field::IIFNAME, Field::ETHER_SADDR], &MACS)
        .verdict(Verdict::Drop);
    Filled {
        chain: CHAIN,
        base: Some(BASE),
        comment: "containers keep to their MAC addresses",
        rules: vec![rule],
    }
}
