//! What `run` attaches: a function of the arguments and the networks.

use crate::endpoint::{Container, Endpoint, Resolver, has_capability};
use crate::failure::Failure;
use crate::networks::{Network, Networks};
use crate::suggest::nearest;

use super::RunArgs;
use super::attach::Join;

/// Where the command runs.
#[derive(Debug)]
pub enum Plan {
    /// In the host's network.
    Host,
    /// In a namespace with these attachments: eth0, eth1, ...
    Joins(Vec<Join>),
}

/// The name servers that are asked for.
pub fn resolver(args: &RunArgs) -> Resolver {
    Resolver {
        servers: args.dns.clone(),
        searches: args.dns_search.clone(),
        options: args.dns_option.clone(),
    }
}

/// What to attach, for the container of this id.
pub fn plan(networks: &Networks, args: &RunArgs, id: &str) -> Result<Plan, Failure> {
    let mut endpoints = if args.network.is_empty() { vec![only(networks)?] } else { args.network.clone() };
    of_the_first(&mut endpoints, args);
    if let [one] = endpoints.as_slice()
        && ["none", "host"].contains(&one.network.as_str())
    {
        let plain = Endpoint { network: one.network.clone(), ..Endpoint::default() };
        if *one != plain || !args.publish.is_empty() {
            return Err(Failure::usage(format!(
                "--network {} has no addresses, names and published ports",
                one.network
            )));
        }
        return Ok(if one.network == "host" { Plan::Host } else { Plan::Joins(Vec::new()) });
    }
    let container = Container { id, name: args.name.as_deref(), netns: "" };
    let mut joins = Vec::new();
    for (position, endpoint) in endpoints.iter().enumerate() {
        if ["none", "host"].contains(&endpoint.network.as_str()) {
            return Err(Failure::usage(format!("--network {} stands alone", endpoint.network)));
        }
        let list = &find(networks, &endpoint.network)?.list;
        let ifname = format!("eth{position}");
        let attachment = endpoint.attachment(list, container, &ifname, &resolver(args))?;
        let gateway_priority = endpoint.gateway_priority;
        joins.push(Join { list: list.clone(), attachment, gateway_priority });
    }
    publish(&mut joins, args)?;
    Ok(Plan::Joins(joins))
}

/// `--ip` and its like belong to the first network.
fn of_the_first(endpoints: &mut [Endpoint], args: &RunArgs) {
    if let Some(first) = endpoints.first_mut() {
        first.addresses.extend(args.ip.iter().chain(&args.ip6));
        first.aliases.extend(args.alias.iter().cloned());
        first.mac = args.mac_address.clone().or(first.mac.take());
    }
}

/// The first network that can publish gets the ports: each is published once.
fn publish(joins: &mut [Join], args: &RunArgs) -> Result<(), Failure> {
    if args.publish.is_empty() {
        return Ok(());
    }
    let can_publish = |join: &&mut Join| has_capability(&join.list, "portMappings");
    let Some(join) = joins.iter_mut().find(can_publish) else {
        return Err(Failure::refused("none of the networks publishes ports")
            .hint("a list needs the plugin portmap, with \"capabilities\": {\"portMappings\": true}"));
    };
    let mappings: Vec<_> = args.publish.iter().flat_map(|publish| publish.mappings()).collect();
    join.attachment.capabilities.insert("portMappings".into(), mappings.into());
    Ok(())
}

/// The network, when there is one alone.
fn only(networks: &Networks) -> Result<Endpoint, Failure> {
    match networks.all.as_slice() {
        [one] => Ok(Endpoint { network: one.name().to_owned(), ..Endpoint::default() }),
        [] => Err(Failure::refused("there is no network").hint("`moor network create front` makes one")),
        all => {
            let names: Vec<_> = all.iter().map(Network::name).collect();
            Err(Failure::usage("which network?")
                .hint(format!("--network NAME, none or host; the networks are {}", names.join(", "))))
        }
    }
}

/// The network of this name.
pub fn find<'n>(networks: &'n Networks, name: &str) -> Result<&'n Network, Failure> {
    networks.named(name).ok_or_else(|| {
        let missing = Failure::refused(format!("there is no network {name:?}"));
        match nearest(name, networks.all.iter().map(Network::name)) {
            Some(meant) => missing.hint(format!("did you mean {meant:?}?")),
            None => missing,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use clap::Parser;
    use runtime::Conflist;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn networks(names: &[&str]) -> Networks {
        let network = |name: &&str| {
            let capabilities = if *name == "plain" { "{}" } else { r#"{"portMappings":true,"ips":true}"# };
            let text = format!(
                r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[
                    {{"type":"bridge","capabilities":{capabilities}}}]}}"#
            );
            Network {
                id: String::new(),
                file: "x".into(),
                namespace: None,
                first: false,
                object: serde_json::Map::new(),
                list: Conflist::from_bytes(text.as_bytes()).unwrap(),
            }
        };
        Networks { all: names.iter().map(network).collect(), notes: Vec::new() }
    }

    fn planned(names: &[&str], words: &str) -> Result<Plan, Failure> {
        let words = ["run"].into_iter().chain(words.split_whitespace()).chain(["--", "true"]);
        plan(&networks(names), &Line::try_parse_from(words).unwrap().args, "moor-1")
    }

    fn joins(names: &[&str], words: &str) -> Vec<Join> {
        let Plan::Joins(joins) = planned(names, words).unwrap() else { panic!("{words}") };
        joins
    }

    #[test]
    fn networks_are_eth0_eth1_in_order_and_the_first_has_the_flags() {
        let all = joins(&["plain", "front", "back"], "--net plain --net name=back,ip=10.0.0.2 --ip 10.1.0.2");
        let seen: Vec<_> = all
            .iter()
            .map(|join| {
                (join.list.name.as_str(), join.attachment.ifname.as_str(), join.attachment.args_text())
            })
            .collect();
        let first = ("plain", "eth0", "IgnoreUnknown=1;IP=10.1.0.2".to_owned());
        assert_eq!(seen, [first, ("back", "eth1", "IgnoreUnknown=1".into())]);
        assert_eq!(all[1].attachment.capabilities["ips"], json!(["10.0.0.2"]));
    }

    #[test]
    fn ports_go_to_the_first_network_that_publishes_and_to_no_other() {
        let all = joins(&["plain", "front", "back"], "--net plain --net front --net back -p 8080:80 -p 81");
        let ports = json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 0, "containerPort": 81, "protocol": "tcp"},
        ]);
        assert_eq!(all[1].attachment.capabilities["portMappings"], ports);
        assert!(all[2].attachment.capabilities.is_empty());
        assert!(planned(&["plain"], "-p 80").unwrap_err().text.contains("publishes"));
    }

    #[test]
    fn none_and_host_stand_alone() {
        assert!(joins(&["front"], "--net none").is_empty());
        assert!(matches!(planned(&["front"], "--net host"), Ok(Plan::Host)));
        for wrong in [
            "--net none --net front",
            "--net front --net host",
            "--net none -p 80",
            "--net host --ip 10.0.0.1",
        ] {
            assert!(planned(&["front"], wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_only_network_need_not_be_named_and_a_slip_is_corrected() {
        assert_eq!(joins(&["front"], "")[0].list.name, "front");
        assert!(planned(&["front", "back"], "").unwrap_err().hint.unwrap().contains("front, back"));
        assert!(planned(&[], "").is_err());
        let failure = planned(&["front", "back"], "--net fornt").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean \"front\"?"));
    }
}
