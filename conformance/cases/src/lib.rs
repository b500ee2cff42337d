//! The cases, one file per topic. To add a case, write a function and a line in its topic's list.

mod availability;
mod bandwidth;
mod bandwidth_life;
mod bandwidth_packets;
mod bridge_check;
mod bridge_del;
mod bridge_gateway;
mod bridge_gc;
mod bridge_keys;
mod bridge_life;
mod bridge_vlan;
mod bridge_vlan_frames;
mod chain;
mod comforts;
mod condition_syntax;
mod conflict;
mod conflists;
mod delegate_replaced;
mod delegation;
mod dhcp;
mod dhcp_inputs;
mod dhcp_ipv6;
mod dhcp_ipv6_times;
mod dhcp_servers;
mod dhcp_times;
mod dns_alive;
mod dns_answers;
mod dns_authority;
mod dns_cache;
mod dns_cache_apart;
pub mod dns_control;
mod dns_forward;
mod dns_host;
mod dns_hostile;
mod dns_inside;
mod dns_life;
mod dns_load;
mod dns_names;
mod dns_remote;
mod dns_scope;
pub mod dns_strangers;
mod dns_takeover;
mod dns_verbs;
mod dummy;
mod duties;
mod encoding;
mod env;
mod fast_path;
mod firewall;
mod firewall_closed;
mod firewall_firewalld;
mod firewall_iptables;
mod firewall_iptables_life;
mod firewall_life;
mod firewall_policy;
mod going_back;
mod harness_cluster;
mod harness_company;
mod harness_confined;
mod harness_dhcp;
mod host_access;
mod host_access_life;
mod host_access_routes;
mod host_device;
mod host_device_return;
mod host_local;
mod host_local_requests;
mod host_local_shared;
mod host_local_store;
mod interop;
mod ipvlan;
mod link_first;
mod links_bridge;
mod links_child;
mod links_host_bridge;
mod links_loopback;
mod links_shared;
mod loopback;
mod macspoof;
mod macvlan;
mod macvlan_keys;
mod masquerade;
mod masquerade_invalid;
mod masquerade_iptables;
mod matrix;
mod outside_gateway;
mod overlay;
mod parents;
mod poisoned;
mod portmap;
mod portmap_chain;
mod portmap_conditions;
mod portmap_del;
mod portmap_free_port;
mod portmap_gc;
mod portmap_hosts;
mod portmap_iptables;
mod portmap_iptables_life;
mod portmap_iptables_packets;
mod portmap_life;
mod portmap_loopback;
mod private;
mod protocol;
mod ptp;
mod ptp_keys;
mod ptp_life;
mod reapply;
mod records;
mod routers;
mod rules_absent;
mod rules_busy;
mod rules_close;
mod rules_del;
mod rules_owner;
mod saved_rules;
mod sbr;
mod sbr_life;
mod settled;
mod stacked;
mod static_ipam;
mod stdin;
mod tap;
mod tap_life;
pub mod tap_queue;
mod tool;
mod tool_check;
mod tool_compose;
mod tool_connect;
mod tool_doctor;
mod tool_gc;
mod tool_leases;
mod tool_lint;
mod tool_network;
mod tool_network_rm;
mod tool_overlay;
mod tool_ports;
mod tool_rules;
mod tool_run;
mod tool_trace;
mod tool_tutorial;
mod tool_views;
mod tuning;
mod tuning_life;
mod types;
mod types_keys;
mod unruly;
mod versions;
mod vlan;
mod vlan_keys;
mod vrf;
mod vrf_life;
mod worlds;

use harness::case::Case;

/// Every case, in the order in which they are listed and run.
pub fn all() -> Vec<Case> {
    [
        env::CASES,
        stdin::CASES,
        types::CASES,
        versions::CASES,
        protocol::CASES,
        delegation::CASES,
        link_first::CASES,
        delegate_replaced::CASES,
        encoding::CASES,
        dummy::CASES,
        duties::CASES,
        bridge_keys::CASES,
        bridge_gateway::CASES,
        bridge_life::CASES,
        bridge_check::CASES,
        bridge_del::CASES,
        bridge_gc::CASES,
        links_bridge::CASES,
        links_child::CASES,
        links_host_bridge::CASES,
        links_loopback::CASES,
        links_shared::CASES,
        bridge_vlan::CASES,
        bridge_vlan_frames::CASES,
        masquerade::CASES,
        masquerade_invalid::CASES,
        masquerade_iptables::CASES,
        macspoof::CASES,
        rules_absent::CASES,
        rules_del::CASES,
        rules_owner::CASES,
        rules_busy::CASES,
        rules_close::CASES,
        host_device::CASES,
        host_device_return::CASES,
        host_local::CASES,
        host_local_requests::CASES,
        host_local_store::CASES,
        host_local_shared::CASES,
        static_ipam::CASES,
        bandwidth::CASES,
        bandwidth_life::CASES,
        bandwidth_packets::CASES,
        portmap::CASES,
        portmap_chain::CASES,
        portmap_conditions::CASES,
        condition_syntax::CASES,
        portmap_life::CASES,
        portmap_loopback::CASES,
        fast_path::CASES,
        firewall_firewalld::CASES,
        firewall_iptables::CASES,
        firewall_iptables_life::CASES,
        portmap_del::CASES,
        dhcp::CASES,
        dhcp_inputs::CASES,
        dhcp_ipv6::CASES,
        dhcp_ipv6_times::CASES,
        dhcp_servers::CASES,
        dhcp_times::CASES,
        dns_names::CASES,
        dns_remote::CASES,
        dns_answers::CASES,
        dns_alive::CASES,
        dns_scope::CASES,
        dns_forward::CASES,
        dns_host::CASES,
        dns_life::CASES,
        dns_verbs::CASES,
        dns_inside::CASES,
        dns_control::CASES,
        dns_load::CASES,
        dns_strangers::CASES,
        dns_takeover::CASES,
        dns_authority::CASES,
        dns_cache::CASES,
        dns_cache_apart::CASES,
        dns_hostile::CASES,
        ptp::CASES,
        ptp_keys::CASES,
        ptp_life::CASES,
        sbr::CASES,
        sbr_life::CASES,
        vrf::CASES,
        vrf_life::CASES,
        portmap_free_port::CASES,
        portmap_gc::CASES,
        portmap_hosts::CASES,
        portmap_iptables::CASES,
        portmap_iptables_life::CASES,
        portmap_iptables_packets::CASES,
        reapply::CASES,
        records::CASES,
        saved_rules::CASES,
        private::CASES,
        firewall::CASES,
        firewall_closed::CASES,
        firewall_life::CASES,
        firewall_policy::CASES,
        going_back::CASES,
        interop::CASES,
        loopback::CASES,
        ipvlan::CASES,
        macvlan::CASES,
        macvlan_keys::CASES,
        tap::CASES,
        tap_life::CASES,
        tap_queue::CASES,
        tool::CASES,
        tool_check::CASES,
        tool_compose::CASES,
        tool_connect::CASES,
        tool_doctor::CASES,
        tool_gc::CASES,
        tool_leases::CASES,
        tool_lint::CASES,
        tool_run::CASES,
        tool_network::CASES,
        tool_network_rm::CASES,
        tool_overlay::CASES,
        tool_ports::CASES,
        tool_rules::CASES,
        tool_trace::CASES,
        tool_tutorial::CASES,
        tool_views::CASES,
        tuning::CASES,
        tuning_life::CASES,
        chain::CASES,
        matrix::CASES,
        stacked::CASES,
        overlay::access::CASES,
        overlay::addresses::CASES,
        overlay::clocks::CASES,
        overlay::departures::CASES,
        overlay::fates::CASES,
        overlay::members::CASES,
        overlay::names::CASES,
        overlay::packets::CASES,
        overlay::packets_guard::CASES,
        overlay::packets_networks::CASES,
        overlay::packets_scenarios::CASES,
        overlay::packets_underlay::CASES,
        overlay::records::CASES,
        overlay::verbs::CASES,
        parents::CASES,
        host_access::CASES,
        host_access_life::CASES,
        host_access_routes::CASES,
        settled::CASES,
        routers::CASES,
        poisoned::CASES,
        comforts::CASES,
        availability::CASES,
        outside_gateway::CASES,
        conflict::CASES,
        conflists::CASES,
        unruly::CASES,
        vlan::CASES,
        vlan_keys::CASES,
        worlds::CASES,
        harness_cluster::CASES,
        harness_company::CASES,
        harness_confined::CASES,
        harness_dhcp::CASES,
    ]
    .into_iter()
    .flat_map(cases_of)
    .collect()
}

fn cases_of(list: &'static [Case]) -> impl Iterator<Item = Case> {
    list.iter().map(|case| Case { ..*case })
}
