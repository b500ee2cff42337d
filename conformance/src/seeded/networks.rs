//! Defects of the tool: networks that people make and remove.

use serde_json::{Value, json};

use super::defect::{Defect, defect};

/// The defects of this file.
pub const NETWORKS: &[Defect] = &[
    defect(
        "detaches_who_uses_a_network",
        "moor",
        "tool/rm_names_who_uses_the_network_and_the_gone_never_keep_it",
        |call| call.with_words("rm", &["--disconnect"]),
    ),
    defect("insists_on_any_subnet", "moor", "tool/create_refuses_a_subnet_that_another_has", |call| {
        call.with_words("create", &["--allow-overlap"])
    }),
    defect("shows_no_containers", "moor", "tool/inspect_shows_the_containers_of_every_runtime", |call| {
        call.after(true, |reply| {
            if let Ok(mut all) = serde_json::from_slice::<Value>(&reply.stdout) {
                let networks = all.as_array_mut().into_iter().flatten();
                networks.for_each(|network| network["Containers"] = json!({}));
                reply.stdout = all.to_string().into_bytes();
            }
        })
    }),
    defect(
        "makes_a_projects_networks_anew_unasked",
        "moor",
        "tool/compose_makes_and_removes_the_projects_networks_alone",
        |call| {
            let is_compose = std::env::args().any(|word| word == "compose");
            if is_compose { call.with_words("create", &["--recreate"]) } else { call.sound() }
        },
    ),
];
