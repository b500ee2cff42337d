//! Defects of sbr and vrf. A defect runs on any kernel, so those of vrf are of cases that need no
//! VRF.

use std::path::Path;

use harness::ip;

use super::defect::{Defect, defect};
use super::wrapper::{Call, Reply};

/// The defects of this file.
pub const SOURCES: &[Defect] = &[
    defect("keeps_a_default_route_in_the_main_table", "sbr", PACKETS, |call| {
        after_add(call, "route add default via 10.2.0.1 dev net1 metric 900 onlink")
    }),
    defect("forgets_ipv6", "sbr", PACKETS, |call| after_add(call, "-6 rule del from fd02::5")),
    defect("removes_the_link_local_route", "sbr", ROUTES, |call| {
        after_add(call, "-6 route del fe80::/64 dev net1")
    }),
    defect("loses_a_route_with_a_metric", "sbr", ROUTES, |call| {
        after_add(call, "route del 10.50.0.0/16 table 100")
    }),
    defect("checks_nothing", "sbr", "sbr/check_names_every_drift", |call| match call.verb.as_str() {
        "CHECK" => Reply::nothing(),
        _ => call.sound(),
    }),
    defect("takes_a_neighbours_route_for_a_drift", "sbr", ADVERTISED, |call| {
        let learned = ip::rows(Some("c1"), &["-6", "route", "show", "default", "proto", "ra"]);
        match call.verb == "CHECK" && learned.is_ok_and(|routes| !routes.is_empty()) {
            true => Reply::error(999, "default route of net1 in the main table"),
            false => call.sound(),
        }
    }),
    defect("needs_a_namespace_to_delete", "sbr", "sbr/del_matrix", |call| {
        let path = std::env::var("CNI_NETNS").unwrap_or_default();
        match call.verb == "DEL" && !Path::new(&path).exists() {
            true => Reply::error(999, "failed to open netns"),
            false => call.sound(),
        }
    }),
    defect("deletes_every_rule_of_the_address", "sbr", "sbr/del_keeps_what_others_have", |call| {
        call.after(call.verb == "DEL", |_| inside("rule del from 10.2.0.5 lookup 777"))
    }),
    defect("accepts_any_gateways", "sbr", "sbr/invalid_config_is_refused_before_any_change", |call| {
        call.without("gateways")
    }),
    defect("needs_a_name_to_delete", "vrf", "vrf/del_succeeds_without_a_vrf", |call| {
        let named = call.config().is_some_and(|config| config["vrfname"].is_string());
        if call.verb == "DEL" && !named { Reply::error(7, "no valid vrf name") } else { call.sound() }
    }),
    defect("accepts_any_table", "vrf", "vrf/invalid_config_is_refused_before_any_change", |call| {
        call.without("table")
    }),
    defect("status_looks_at_no_kernel", "vrf", "vrf/status_is_50_where_the_kernel_lacks_a_feature", |call| {
        if call.verb == "STATUS" { Reply::error(50, "no VRF") } else { call.sound() }
    }),
];

const PACKETS: &str = "sbr/answers_leave_by_the_interface_that_the_question_came_in_by";
const ADVERTISED: &str = "sbr/check_accepts_a_route_that_a_neighbour_advertises";
const ROUTES: &str = "sbr/routes_keep_metrics_next_hops_and_protocols";

fn after_add(call: &Call, command: &str) -> Reply {
    call.after(call.verb == "ADD", |_| inside(command))
}

/// Runs `ip` in the container of these cases; it may have nothing to do.
fn inside(command: &str) {
    let _ = ip::run_in("c1", &command.split_whitespace().collect::<Vec<_>>());
}
