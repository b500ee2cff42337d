//! The result of ADD.

use cni::{AddResult, Error, Interface, IpConfig};
use ipnetwork::IpNetwork;

pub(crate) const LO: &str = "lo";

/// The interface with its first IPv4 and its first IPv6 address. An address outside of loopback's
/// ranges is an error: something else uses the interface.
pub(crate) fn of(addresses: impl Iterator<Item = IpNetwork>, netns: &str) -> Result<AddResult, Error> {
    let (mut v4, mut v6) = (None, None);
    for address in addresses {
        if !address.ip().is_loopback() {
            return Err(Error::internal(format!("loopback interface has non-loopback address {address}"))
                .details(format!("remove it from {} in {netns}", LO)));
        }
        let first = if address.is_ipv4() { &mut v4 } else { &mut v6 };
        first.get_or_insert(address);
    }
    let interface = Interface {
        name: LO.into(),
        mac: Some("00:00:00:00:00:00".into()),
        sandbox: Some(netns.into()),
        ..Interface::default()
    };
    let ip = |address| IpConfig { interface: Some(0), address, gateway: None };
    Ok(AddResult {
        interfaces: vec![interface],
        ips: [v4, v6].into_iter().flatten().map(ip).collect(),
        ..AddResult::default()
    })
}

#[cfg(test)]
mod tests {
    use cni::parse_cidr;

    use super::*;

    fn answer(addresses: &[&str]) -> Result<AddResult, Error> {
        of(addresses.iter().map(|text| parse_cidr(text).unwrap()), "/run/netns/a")
    }

    #[test]
    fn the_result_has_the_first_address_of_each_family_ipv4_first() {
        let result = answer(&["::1/128", "127.0.0.1/8", "127.0.0.2/8"]).unwrap();
        let ips: Vec<_> = result.ips.iter().map(|ip| (ip.address.to_string(), ip.interface)).collect();
        assert_eq!(ips, [("127.0.0.1/8".to_owned(), Some(0)), ("::1/128".to_owned(), Some(0))]);
        assert_eq!(result.interfaces.len(), 1);
        assert!(answer(&[]).unwrap().ips.is_empty());
    }

    #[test]
    fn a_foreign_address_is_an_error() {
        for foreign in ["10.0.0.1/32", "fe80::1/64", "128.0.0.1/8", "::/0"] {
            let error = answer(&["127.0.0.1/8", foreign]).unwrap_err();
            assert_eq!(error.msg, format!("loopback interface has non-loopback address {foreign}"));
        }
    }

    /// C-060..C-063: the reference always prints the newest format.
    #[test]
    fn every_version_has_its_own_format() {
        use cni::{Json, Style, Version};
        let result = answer(&["127.0.0.1/8", "::1/128"]).unwrap();
        for version in Version::ALL {
            let expected = match version.as_str() {
                "0.1.0" | "0.2.0" => r#""ip4":{"ip":"127.0.0.1/8"},"ip6":{"ip":"::1/128"},"dns":{}}"#,
                "0.3.0" | "0.3.1" | "0.4.0" => {
                    r#""interfaces":[{"name":"lo","mac":"00:00:00:00:00:00","sandbox":"/run/netns/a"}],"ips":[{"version":"4","interface":0,"address":"127.0.0.1/8"},{"version":"6","interface":0,"address":"::1/128"}],"dns":{}}"#
                }
                _ => {
                    r#""interfaces":[{"mac":"00:00:00:00:00:00","name":"lo","sandbox":"/run/netns/a"}],"ips":[{"address":"127.0.0.1/8","interface":0},{"address":"::1/128","interface":0}]}"#
                }
            };
            let printed = Json::parse(&result.print(*version).unwrap()).unwrap().print(Style::Compact);
            let expected = format!("{{\"cniVersion\":\"{version}\",{expected}");
            assert_eq!(String::from_utf8(printed).unwrap(), expected);
        }
    }
}
