//! Calls of firewalld's D-Bus interface (firewalld.dbus(5)).

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use dbus::{Bus, Object, Value};
use sys::{Error, Result};

use crate::iptables::single;

const NAME: &str = "org.fedoraproject.FirewallD1";
/// The runtime configuration of zones.
const ZONE: Object<'static> = Object {
    destination: NAME,
    path: "/org/fedoraproject/FirewallD1",
    interface: "org.fedoraproject.FirewallD1.zone",
};
/// The permanent configuration.
const CONFIG: Object<'static> = Object {
    destination: NAME,
    path: "/org/fedoraproject/FirewallD1/config",
    interface: "org.fedoraproject.FirewallD1.config",
};
/// The time limit of one call. It includes a reload, during which firewalld does not answer.
const LIMIT: Duration = Duration::from_secs(5);

/// A connection to firewalld.
pub struct Firewalld(Bus);

/// The outcome of adding a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is a source of the zone now.
    Added,
    /// It was one before.
    WasThere,
    /// It is one of this zone, and stays there: an administrator's choice.
    Elsewhere(String),
}

/// Whether firewalld has its name on the system bus.
///
/// # Errors
/// The bus does not answer.
pub fn is_running() -> Result<bool> {
    Ok(Firewalld::open()?.is_some())
}

/// Checks that firewalld has that zone.
///
/// # Errors
/// It has not, or does not run.
pub fn require(zone: &str) -> Result<()> {
    Firewalld::require()?.sources(zone).map(drop)
}

impl Firewalld {
    /// Connects to it; `None` if it does not run.
    ///
    /// # Errors
    /// The bus does not answer.
    pub fn open() -> Result<Option<Self>> {
        let Some(mut bus) = Bus::system(LIMIT).map_err(failed)? else { return Ok(None) };
        Ok(bus.has_owner(NAME).map_err(failed)?.then_some(Self(bus)))
    }

    /// As [`Firewalld::open`], if it must run.
    ///
    /// # Errors
    /// It does not, or the bus does not answer.
    pub fn require() -> Result<Self> {
        let absent =
            || Error::new("find", format!("firewalld ({NAME}) on the system bus"), ErrorKind::NotFound);
        Self::open()?.ok_or_else(absent)
    }

    /// The sources of a zone.
    ///
    /// # Errors
    /// There is no such zone, or firewalld does not answer.
    pub fn sources(&mut self, zone: &str) -> Result<HashSet<String>> {
        match self.0.call(&ZONE, "getSources", &[zone]) {
            Ok(Value::Texts(sources)) => Ok(sources.into_iter().collect()),
            Ok(_) => Ok(HashSet::new()),
            Err(error) => Err(failed(error).within(format!("list the sources of firewalld's zone {zone:?}"))),
        }
    }

    /// Adds a source to a zone.
    ///
    /// # Errors
    /// There is no such zone, or firewalld does not answer.
    pub fn add(&mut self, zone: &str, address: IpAddr) -> Result<Outcome> {
        let source = single(address);
        match self.0.call(&ZONE, "addSource", &[zone, &source]) {
            Ok(_) => Ok(Outcome::Added),
            Err(error) => match code(&error) {
                Some("ZONE_ALREADY_SET") => Ok(Outcome::WasThere),
                Some("ZONE_CONFLICT") => {
                    let other = self.zone_of(&ZONE, &source).map_err(failed)?;
                    Ok(Outcome::Elsewhere(other))
                }
                _ => Err(failed(error).within(format!("add source {source} to firewalld's zone {zone:?}"))),
            },
        }
    }

    /// Removes a source from a zone. That it is gone, or in another zone, is no error.
    ///
    /// # Errors
    /// firewalld does not answer, or refused.
    pub fn remove(&mut self, zone: &str, address: IpAddr) -> Result<()> {
        let source = single(address);
        match self.0.call(&ZONE, "removeSource", &[zone, &source]) {
            Ok(_) => Ok(()),
            Err(error) => {
                match code(&error) {
                    Some("UNKNOWN_SOURCE" | "ZONE_CONFLICT" | "INVALID_ZONE") => Ok(()),
                    _ => Err(failed(error)
                        .within(format!("remove source {source} from firewalld's zone {zone:?}"))),
                }
            }
        }
    }

    /// Whether an administrator has made it a source for ever.
    ///
    /// # Errors
    /// firewalld does not answer.
    pub fn is_permanent(&mut self, address: IpAddr) -> Result<bool> {
        let zone = self.zone_of(&CONFIG, &single(address)).map_err(failed)?;
        Ok(!zone.is_empty())
    }

    /// The zone of a source in one of the configurations; empty if it has none.
    fn zone_of(&mut self, configuration: &Object<'_>, source: &str) -> dbus::Result<String> {
        Ok(match self.0.call(configuration, "getZoneOfSource", &[source])? {
            Value::Text(zone) => zone,
            _ => String::new(),
        })
    }
}

/// firewalld has one name for its errors: their text begins with a code (firewall/errors.py).
fn code(error: &dbus::Error) -> Option<&str> {
    match error {
        dbus::Error::Failed { name, text } if name.starts_with(NAME) => text.split(':').next(),
        _ => None,
    }
}

fn failed(error: dbus::Error) -> Error {
    Error::Other(Box::new(error))
}
