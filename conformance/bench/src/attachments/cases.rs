//! Counts of attachments, which noise cannot change, against their budgets; `conformance bench`
//! measures the rest.

use harness::case::Case;
use harness::need::Need;

use super::{
    counts_of_ipvlan_stay_within_budget, counts_of_tap_stay_within_budget,
    counts_of_vlan_and_dummy_stay_within_budget, counts_of_vrf_stay_within_budget, counts_stay_within_budget,
};

/// The cases of this file.
pub const CASES: &[Case] = &[
    Case::new("bench/counts_stay_within_budget", &["HA-10"], counts_stay_within_budget)
        .needs(&[Need::Strace]),
    Case::new("bench/counts_of_ipvlan_stay_within_budget", &["HA-10"], counts_of_ipvlan_stay_within_budget)
        .needs(&[Need::Strace, Need::Ipvlan]),
    Case::new(
        "bench/counts_of_vlan_and_dummy_stay_within_budget",
        &["HA-10"],
        counts_of_vlan_and_dummy_stay_within_budget,
    )
    .needs(&[Need::Strace, Need::VlanLinks, Need::Dummy]),
    Case::new("bench/counts_of_vrf_stay_within_budget", &["HA-10"], counts_of_vrf_stay_within_budget)
        .needs(&[Need::Strace, Need::Vrf]),
    Case::new("bench/counts_of_tap_stay_within_budget", &["HA-10"], counts_of_tap_stay_within_budget)
        .needs(&[Need::Strace, Need::Tap]),
];
