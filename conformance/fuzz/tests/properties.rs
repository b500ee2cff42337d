//! Runs the bodies on any toolchain: on the inputs of the tree, on damaged ones, and on any bytes.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/fuzz").join(name);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", dir.display());
    files.into_iter().map(|path| fs::read(path).unwrap()).collect()
}

fn holds(name: &str, cases: u32) {
    let (_, body) = fuzz_bodies::ALL.iter().find(|(body, _)| *body == name).unwrap();
    let corpus = corpus(name);
    corpus.iter().for_each(|input| body(input));
    let damaged = (0..corpus.len(), any::<prop::sample::Index>(), vec(any::<u8>(), 0..4), any::<bool>());
    let damaged = damaged.prop_map(move |(which, at, with, cut)| {
        let mut input = corpus[which].clone();
        let at = at.index(input.len() + 1);
        let end = if cut { input.len() } else { (at + with.len()).min(input.len()) };
        input.splice(at..end, with);
        input
    });
    let any = prop_oneof![4 => damaged, 1 => vec(any::<u8>(), 0..300)];
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(input in any)| body(&input));
}

/// C-030: a plugin decodes any input of a runtime or reports one error.
#[test]
fn any_request_is_decoded_or_refused() {
    holds("request", 2000);
}

/// C-070: any answer of a plugin is converted without loss or refused.
#[test]
fn any_result_is_converted_or_refused() {
    holds("result", 2000);
}

/// C-130: any configuration file is a list or an error.
#[test]
fn any_configuration_file_is_read_or_refused() {
    holds("conflist", 2000);
}

/// With any content of the lease directory, addresses are assigned once.
#[test]
fn any_store_serves_or_refuses() {
    holds("store", 100);
}

/// FW-65: any message of the bus is an answer or a fault.
#[test]
fn any_message_of_the_bus_is_read_or_refused() {
    holds("dbus", 2000);
}

/// Any message of the kernel is read or refused.
#[test]
fn any_reply_of_the_kernel_is_read_or_refused() {
    holds("netlink", 4000);
}

/// D-028, D-029: the answer to any packet of a client is a bounded response to it, or there is
/// none.
#[test]
fn any_packet_is_answered_within_its_limit_or_dropped() {
    holds("dns", 5_000);
}

/// D-114: the answer of a DNS server is kept for the question that it repeats, or not at all.
#[test]
fn any_answer_is_kept_for_its_question_or_not_at_all() {
    holds("dns-answer", 5_000);
}

/// Any frame is a sound offer or nothing.
#[test]
fn any_dhcp_message_is_read_or_refused() {
    holds("dhcp", 2000);
}

/// Any datagram is a sound grant or nothing, and any advertisement is read or nothing.
#[test]
fn any_dhcpv6_message_is_read_or_refused() {
    holds("dhcpv6", 2000);
}

/// Any file is JSON here exactly when serde_json takes it, and each finding is in it.
#[test]
fn any_file_is_linted_and_every_finding_points_into_it() {
    holds("lint", 2000);
}

/// O-078: any records of etcd are in force or left out, and good ones are in force beside them.
#[test]
fn any_record_of_etcd_is_in_force_or_left_out() {
    holds("etcd", 5_000);
}

/// O-095: any settings of a host are read or refused by the file's name.
#[test]
fn any_settings_of_a_host_are_read_or_refused() {
    holds("cluster", 2_000);
}

/// T-082: any YAML is a tree within the limits or a fault with its place.
#[test]
fn any_yaml_is_a_bounded_tree_or_a_fault_with_its_place() {
    holds("yaml", 5_000);
}
