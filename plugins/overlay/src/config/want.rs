//! What a configuration asks of the network's record, which all hosts share.

use std::net::IpAddr;

use attach::mtu::MtuConf;
use cluster::block::Limits;
use cluster::check::Checked;
use cluster::net;
use cluster::record::Net;
use cni::{Error, Json, Request, shortened};
use ipnetwork::IpNetwork;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    ipam: Option<Ipam>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ipam {
    subnets: Option<Vec<String>>,
    gateway: Option<Json>,
    block_size: Option<u32>,
    exclude: Option<Vec<String>>,
    range_start: Option<String>,
    range_end: Option<String>,
}

/// The record as this configuration has it. Whatever is wrong with it is found before anything is
/// asked or made; the IPAM plugin checks the rest of its section.
pub(super) fn want(
    request: &Request,
    is_of_cluster: bool,
    mtu: Option<MtuConf>,
    multicast: bool,
    internal: bool,
) -> Result<Net, Error> {
    let conf: Conf = request.config()?;
    let ipam = conf.ipam.unwrap_or_default();
    let (subnets, gateways) = match is_of_cluster {
        true => {
            let subnets = subnets(ipam.subnets.unwrap_or_default())?;
            let gateways = gateways(ipam.gateway, &subnets)?;
            (subnets, gateways)
        }
        false => of_others(request)?,
    };
    let block_size = ipam.block_size.unwrap_or_else(|| net::default_block_size(&subnets));
    let mtu = match mtu {
        None | Some(MtuConf::Auto) => 0,
        Some(MtuConf::Bytes(bytes)) => u32::try_from(bytes)
            .ok()
            .filter(|bytes| (net::mtu_min(&subnets)..=net::MTU_MAX).contains(bytes))
            .ok_or_else(|| {
                let least = net::mtu_min(&subnets);
                Error::invalid_config(format!("invalid MTU {bytes}, must be [{least}, {}]", net::MTU_MAX))
            })?,
    };
    let want = Net {
        v: cluster::VERSION,
        vni: Some(0),
        subnets,
        gateways,
        block_size,
        mtu: Some(mtu),
        encrypted: false,
        multicast,
        internal,
    };
    // Id and MTU may be chosen later: possible ones stand for them.
    let mtu = Some(if mtu == 0 { net::MTU_MAX } else { mtu });
    Net { vni: Some(cluster::VNI_FIRST), mtu, ..want.clone() }
        .check()
        .map_err(|why| Error::invalid_config(format!("ipam: {why}")))?;
    Ok(want)
}

/// What the configuration keeps back. What is wrong with it the IPAM plugin reports.
pub(super) fn limits(request: &Request, is_of_cluster: bool) -> Result<Limits, Error> {
    let ipam = request.config::<Conf>()?.ipam.filter(|_| is_of_cluster).unwrap_or_default();
    let net =
        |text: &String| cni::parse_cidr(text).ok().or_else(|| cni::parse_ip(text).ok().map(IpNetwork::from));
    let bound = |text: Option<String>| text.and_then(|text| cni::parse_ip(&text).ok());
    Ok(Limits {
        exclude: ipam.exclude.unwrap_or_default().iter().filter_map(net).collect(),
        start: bound(ipam.range_start),
        end: bound(ipam.range_end),
    })
}

fn subnets(texts: Vec<String>) -> Result<Vec<IpNetwork>, Error> {
    if texts.is_empty() {
        return Err(Error::invalid_config("ipam: \"subnets\" has none: one or two of different families"));
    }
    let parse = |text: &String| {
        let subnet = cni::parse_cidr(text)
            .map_err(|why| Error::invalid_config(format!("ipam: subnets: {:?}: {why}", shortened(text))))?;
        match subnet.ip() == subnet.network() {
            true => Ok(subnet),
            false => Err(Error::invalid_config(format!(
                "ipam: subnets: {subnet} has host bits: its network is {}/{}",
                subnet.network(),
                subnet.prefix()
            ))),
        }
    };
    texts.iter().map(parse).collect()
}

/// A gateway of each subnet: a text, or a list of texts in any order; the first address where none
/// is given.
fn gateways(given: Option<Json>, subnets: &[IpNetwork]) -> Result<Vec<IpAddr>, Error> {
    let texts: Vec<String> = match given {
        None | Some(Json::Null) => Vec::new(),
        Some(list @ Json::Array(_)) => {
            list.decode().map_err(|why| Error::invalid_config(format!("ipam: gateway: {why}")))?
        }
        Some(text) => {
            vec![text.decode().map_err(|why| Error::invalid_config(format!("ipam: gateway: {why}")))?]
        }
    };
    let mut given = Vec::new();
    for text in texts.iter().filter(|text| !text.is_empty()) {
        let gateway = cni::parse_ip(text)
            .map_err(|why| Error::invalid_config(format!("ipam: gateway {:?}: {why}", shortened(text))))?;
        if !subnets.iter().any(|subnet| subnet.contains(gateway)) {
            return Err(Error::invalid_config(format!("ipam: gateway {gateway} is in none of the subnets")));
        }
        given.push(gateway);
    }
    let of = |subnet: &IpNetwork| {
        let chosen = given.iter().copied().find(|gateway| subnet.contains(*gateway));
        chosen
            .or_else(|| net::default_gateway(*subnet))
            .ok_or_else(|| Error::invalid_config(format!("ipam: subnet {subnet} has no room for a gateway")))
    };
    subnets.iter().map(of).collect()
}

/// The subnets and gateways of another IPAM plugin's section, as far as it has the usual keys.
fn of_others(request: &Request) -> Result<(Vec<IpNetwork>, Vec<IpAddr>), Error> {
    let (mut subnets, mut gateways) = (Vec::new(), Vec::new());
    for gateway in attach::ipam_gateways(request)? {
        let subnet = IpNetwork::new(gateway.network(), gateway.prefix());
        subnets.extend(subnet.ok().filter(|subnet| !subnets.contains(subnet)));
        if gateways.len() < subnets.len() {
            gateways.push(gateway.ip());
        }
    }
    if subnets.is_empty() {
        return Err(Error::invalid_config(
            "foreignIpam: the ipam section names no subnet (\"subnet\" or \"ranges\"), which the network's record needs",
        ));
    }
    Ok((subnets, gateways))
}
