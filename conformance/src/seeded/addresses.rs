//! Defects of static and dhcp.

use serde_json::json;

use super::defect::{Defect, defect};
use super::wrapper::Reply;

/// The defects of this file.
pub const ADDRESSES: &[Defect] = &[
    defect(
        "loses_route_attributes",
        "static",
        "static/addresses_routes_and_dns_of_the_configuration",
        |call| {
            call.with(|config| {
                if let Some(route) = config.pointer_mut("/ipam/routes/1").and_then(|it| it.as_object_mut()) {
                    route.retain(|key, _| key == "dst" || key == "gw");
                }
            })
        },
    ),
    defect(
        "ignores_gateways_of_cni_args",
        "static",
        "static/gateway_of_cni_args_reaches_configured_addresses",
        |call| call.with_env("CNI_ARGS", ""),
    ),
    defect(
        "prefers_the_addresses_of_args",
        "static",
        "static/ips_of_args_and_runtime_replace_the_list",
        |call| {
            call.with(|config| {
                if config.pointer("/args/cni/ips").is_some() {
                    config["runtimeConfig"] = json!({});
                }
            })
        },
    ),
    defect("check_does_not_compare", "static", "static/check_reports_a_missing_address_and_route", |call| {
        if call.verb == "CHECK" { Reply::nothing() } else { call.sound() }
    }),
    defect("keeps_the_lease_at_del", "dhcp", "dhcp/add_leases_and_del_releases", |call| {
        if call.verb == "DEL" { Reply::nothing() } else { call.sound() }
    }),
    defect("check_acquires_a_lease", "dhcp", "dhcp/check_acquires_no_lease", |call| {
        if call.verb == "CHECK" {
            call.with_env("CNI_COMMAND", "ADD");
            return Reply::nothing();
        }
        call.sound()
    }),
    defect("drops_the_servers_parameters", "dhcp", "dhcp/routes_and_parameters_reach_the_result", |call| {
        call.after(call.verb == "ADD", |reply| reply.edit(|result| result["dns"] = json!({})))
    }),
    defect("needs_a_valid_configuration_for_del", "static", "static/keeps_no_state", |call| {
        let has_ipam = call.config().is_some_and(|config| config.get("ipam").is_some());
        if call.verb == "DEL" && !has_ipam { Reply::error(7, "no ipam") } else { call.sound() }
    }),
];
