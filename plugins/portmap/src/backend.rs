//! Which back end publishes the ports (PM-K4): nf_tables, unless the configuration selects iptables
//! by name or by options that only iptables has.

use cni::{Code, Error, shortened};
use host::iptables::{Mark, Ports};
use host::ports::{Conditions, Fault};
use sys::IpFamily;

/// The back end that publishes the ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Maps of nf_tables, with conditions for IPv4 and for IPv6.
    NfTables([Conditions; 2]),
    /// The reference's chains of iptables.
    Iptables(Options),
}

/// Options that only iptables has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The mark of packets to masquerade.
    pub mark: Mark,
    /// Arguments of every rule that leads to the container, for IPv4 and for IPv6.
    pub conditions: [Vec<String>; 2],
}

/// The keys that determine the choice.
pub struct Keys {
    pub backend: Option<String>,
    pub mark_masq_bit: Option<i64>,
    pub external_set_mark_chain: Option<String>,
    pub conditions_v4: Option<Vec<String>>,
    pub conditions_v6: Option<Vec<String>>,
}

/// The default bit of a packet's mark that means "masquerade".
pub const MARK_BIT: u8 = 13;
/// The maximum length of a chain's name in bytes (XT_EXTENSION_MAXNAMELEN,
/// linux/netfilter/x_tables.h, without its NUL).
const CHAIN_MAX: usize = 28;

/// The language of a list of conditions; its first character identifies it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Iptables,
    NfTables,
}

impl Backend {
    /// The back end that the keys ask for.
    pub fn of(keys: Keys) -> Result<Self, Error> {
        let chain = keys.external_set_mark_chain.filter(|chain| !chain.is_empty());
        if chain.is_some() && keys.mark_masq_bit.is_some() {
            return Err(Error::invalid_config("Cannot specify externalSetMarkChain and markMasqBit"));
        }
        // nf_tables needs no mark: it identifies the connections by conntrack.
        let bit = match keys.mark_masq_bit.map(u8::try_from) {
            None => MARK_BIT,
            Some(Ok(bit @ 0..=31)) => bit,
            Some(_) => return Err(Error::invalid_config("MasqMarkBit must be between 0 and 31")),
        };
        let options = [
            ("externalSetMarkChain", chain.is_some().then_some(Style::Iptables)),
            ("conditionsV4", style(keys.conditions_v4.as_deref())),
            ("conditionsV6", style(keys.conditions_v6.as_deref())),
        ];
        let of_style = |style| {
            let keys = options.iter().filter(|(_, of)| *of == Some(style)).map(|(key, _)| *key);
            keys.collect::<Vec<_>>()
        };
        let [iptables, nf_tables] = [Style::Iptables, Style::NfTables].map(of_style);
        let by_iptables = match keys.backend.as_deref() {
            None | Some("") => !iptables.is_empty(),
            Some("iptables") => true,
            Some("nftables") => false,
            Some(other) => {
                return Err(Error::invalid_config(format!("unrecognized backend {:?}", shortened(other))));
            }
        };
        let (chosen, other, alien) = match by_iptables {
            true => ("iptables", "nftables", nf_tables),
            false => ("nftables", "iptables", iptables),
        };
        if !alien.is_empty() {
            return Err(Error::invalid_config(format!(
                "{chosen} backend was requested but configuration contains {other}-specific options [{}]",
                alien.join(" ")
            )));
        }
        if by_iptables {
            let conditions = [keys.conditions_v4, keys.conditions_v6].map(Option::unwrap_or_default);
            return options_of(chain, bit, conditions).map(Self::Iptables);
        }
        let [v4, v6] = [keys.conditions_v4, keys.conditions_v6].map(Option::unwrap_or_default);
        Ok(Self::NfTables([
            Conditions::read(&v4, IpFamily::V4).map_err(|fault| not_understood("conditionsV4", &fault))?,
            Conditions::read(&v6, IpFamily::V6).map_err(|fault| not_understood("conditionsV6", &fault))?,
        ]))
    }
}

/// An ignored condition would open a port to clients that it excludes.
fn not_understood(key: &str, fault: &Fault) -> Error {
    let msg = format!("{key}: {fault}");
    match fault {
        Fault::Invalid(..) => Error::invalid_config(&msg),
        Fault::Unknown(_) => Error::new(Code::UnsupportedField, msg).details(
            "known are: ip and ip6 (saddr, daddr), tcp, udp, sctp (sport, dport), iifname, oifname, meta l4proto, \
             meta mark, ct mark, ct state, with ==, !=, <, >, ranges, prefixes and sets { a, b }; for others say it in \
             the words of iptables (the first begins with '-' or '!'), which chooses that back end",
        ),
    }
}

fn options_of(chain: Option<String>, bit: u8, conditions: [Vec<String>; 2]) -> Result<Options, Error> {
    if let Some(word) = conditions.iter().flatten().find(|word| !Ports::is_word(word)) {
        return Err(Error::invalid_config(format!("condition {:?} is no word of a rule", shortened(word))));
    }
    let mark = match chain {
        None => Mark::Bit(bit),
        Some(chain) => {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
            if chain.len() > CHAIN_MAX || chain.starts_with(['-', '!']) || !chain.chars().all(plain) {
                return Err(Error::invalid_config(format!(
                    "invalid externalSetMarkChain {:?}",
                    shortened(&chain)
                )));
            }
            Mark::Chain(chain)
        }
    };
    Ok(Options { mark, conditions })
}

fn style(conditions: Option<&[String]>) -> Option<Style> {
    let first = conditions?.first()?.chars().next()?;
    Some(if matches!(first, '-' | '!') { Style::Iptables } else { Style::NfTables })
}
