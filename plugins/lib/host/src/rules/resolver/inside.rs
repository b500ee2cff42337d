//! The same in a container's own namespace, for a resolver with sockets there. The container
//! queries a loopback address, and a server of its own may still have port 53 of all addresses.
//!
//! ```text
//! table ip moor { chain resolver { type nat hook output priority -110;
//!     ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001 comment "moor/net/eth0/c1"; … } }
//! ```

use std::net::{IpAddr, Ipv4Addr};

use nft::{Base, Batch, Chain, Expr, Family, Field, Hook, Kind, Nft, Policy, Rule, Table, Type, Value};
use sys::Result;

use super::{BEFORE_DNAT, PORT, PROTOCOLS};
use crate::rules::COMMENT;

/// The rules of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside<'a> {
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
    /// The loopback address that the container queries.
    pub address: Ipv4Addr,
    /// The resolver's actual ports, of UDP and of TCP.
    pub ports: [u16; 2],
}

/// A container's own table, which shares nothing with the host's.
const INSIDE: Chain<'static> = Chain { table: Table { family: Family::Ip, name: "moor" }, name: "resolver" };
const INSIDE_BASE: Base =
    Base { kind: Kind::Nat, hook: Hook::Output, priority: BEFORE_DNAT, policy: Policy::Accept };

impl Inside<'_> {
    /// Leads port 53 of the address to the resolver, in the namespace that `nft` was opened in.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        let added = nft.transact(|nft, batch| {
            batch.add_table(&INSIDE.table, Some(COMMENT));
            batch.add_chain(
                &INSIDE,
                Some(&INSIDE_BASE),
                Some("questions of this container reach its resolver"),
            );
            delete_inside(nft, batch, self.label)?;
            self.rules().iter().for_each(|rule| batch.add_rule(&INSIDE, rule));
            Ok(())
        });
        added.map_err(|error| error.within("failed to lead the container to its resolver".into()))
    }

    fn rules(&self) -> [Rule; 2] {
        let pairs = [(PROTOCOLS[0], self.ports[0]), (PROTOCOLS[1], self.ports[1])];
        pairs.map(|(proto, port)| {
            Rule::new()
                .is(Field::IP_DADDR, Value::new().addr(self.address))
                .is(Field::L4PROTO, Value::new().raw(&[proto]))
                .is(Field::DPORT, Value::new().raw(&PORT.to_be_bytes()))
                .dnat(self.address.into(), Some(port))
                .comment(self.label)
        })
    }
}

/// Addresses in the rules of the container's other attachments; `label` is that of this one.
///
/// # Errors
/// The kernel could not be asked.
pub fn taken_inside(nft: &Nft, label: &str) -> Result<Vec<IpAddr>> {
    let mut taken = Vec::new();
    for rule in nft.rules(&INSIDE)? {
        if rule.comment.as_deref() == Some(label) {
            continue;
        }
        for expr in &rule.exprs {
            if let Expr::Immediate { value, .. } = expr
                && let Some(ip) = value.first_addr(&[Type::Ipv4]).filter(|ip| ip.is_loopback())
            {
                taken.push(ip);
            }
        }
    }
    Ok(taken)
}

/// Deletes what [`Inside::add`] made for an attachment; the last attachment takes the table with
/// it.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn remove_inside(nft: &Nft, label: &str) -> Result<()> {
    nft.transact(|nft, batch| {
        let rules = nft.rules(&INSIDE)?;
        let ours = rules.iter().filter(|rule| rule.comment.as_deref() == Some(label)).count();
        match ours {
            0 => {}
            all if all == rules.len() => batch.del_table(&INSIDE.table),
            _ => {
                delete_inside(nft, batch, label)?;
            }
        }
        Ok(())
    })
}

fn delete_inside(nft: &Nft, batch: &mut Batch, label: &str) -> Result<()> {
    for rule in nft.rules(&INSIDE)?.iter().filter(|rule| rule.comment.as_deref() == Some(label)) {
        batch.del_rule(&INSIDE, rule.handle);
    }
    Ok(())
}
