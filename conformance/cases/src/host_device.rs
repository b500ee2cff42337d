//! host-device: how the device is found, what ADD and CHECK promise, and what is refused.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{VERSIONS, with};
use harness::ip;
use harness::namespace::{Container, allow_ipv6};
use harness::room::Room;
use harness::stage::lan::{add, addresses, check, lan, outside, reaches, refused};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("host_device/the_device_works_in_the_container", &["HD-1", "HD-2", "HD-K1"], works),
    Case::new("host_device/found_by_mac_address_and_by_sysfs", &["HD-K2", "HD-K3", "HD-K4", "HD-K7"], found),
    Case::new("host_device/found_by_the_allocated_device", &["HD-K5"], allocated),
    Case::new("host_device/a_programs_device_has_no_link", &["HD-K6"], dpdk),
    Case::new("host_device/every_version_has_its_result", &["C-036", "C-060", "HD-1"], versions),
    Case::new("host_device/check_names_every_drift", &["HD-3", "C-043"], drifts),
    Case::new("host_device/faults_of_the_configuration_are_named", &["HD-5"], faults),
    Case::new("host_device/layer_2_is_refused_where_it_cannot_be_expressed", &["HD-B5", "C-065"], layer2),
    Case::new("host_device/what_the_host_needs_is_refused", &["HD-R4", "HD-K9"], unfit),
    Case::new("host_device/one_of_two_adds_gets_the_device", &["HD-R7"], race),
];

/// The outside's wire as the device, with addresses for the container on it.
pub fn network(keys: &Value) -> Value {
    lan("host-device", &with(&json!({"device": "wan0"}), keys.clone()))
}

/// The same without addresses.
fn bare(keys: &Value) -> Value {
    let bare = json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "host-device"});
    with(&bare, keys.clone())
}

fn works(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let device = ip::link(None, "wan0")?.context("no wan0")?;
    let (container, result) = add(room, "host-device", "c1", &network(&json!({})))?;
    ensure!(ip::link(None, "wan0")?.is_none(), "the host has it too");
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    ensure!(link["address"] == device["address"] && link["ifalias"] == "wan0", "{link}");
    let interface = json!({"name": "eth0", "mac": device["address"], "sandbox": container.path});
    ensure!(result["interfaces"] == json!([interface]) && result["ips"][1]["interface"] == 0, "{result}");
    ensure!(reaches(room, Some("c1"), &outside())? && reaches(room, Some("outside"), &addresses(0))?);
    check(room, "host-device", &container, &network(&json!({})), &result)?.silent()
}

fn versions(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]]});
    for (nth, version) in VERSIONS.iter().enumerate() {
        let config = network(&json!({"cniVersion": version, "ipam": ipam}));
        let (container, result) = add(room, "host-device", &format!("c{nth}"), &config)?;
        ensure!(result["cniVersion"] == *version, "{result}");
        let v4 = if *version < "0.3.0" { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        ensure!(*v4 == format!("10.7.0.{}/24", nth + 2), "{version}: {result}");
        if *version >= "0.4.0" {
            check(room, "host-device", &container, &config, &result)?.silent().context(*version)?;
        }
        room.attach("host-device", "DEL", &container).config(&config).run()?.silent()?;
    }
    Ok(())
}

/// A directory of sysfs with other content, for this room.
fn cover(dir: &str) -> Result<()> {
    mount(Some("none"), dir, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cover {dir}"))
}

fn pci(address: &str, driver: &str, net: &str) -> Result<()> {
    let device = Path::new("/sys/bus/pci/devices").join(address);
    let driver = Path::new("/sys/bus/pci/drivers").join(driver);
    fs::create_dir_all(device.join(net))?;
    fs::create_dir_all(&driver)?;
    symlink(driver, device.join("driver")).context("link the driver")
}

fn comes_and_goes(room: &Room, config: &Value) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("guest")?;
    room.attach("host-device", "ADD", &container).config(config).run()?.result()?;
    ensure!(ip::link(Some("guest"), "eth0")?.context("no eth0")?["ifalias"] == "wan0", "{config}");
    room.attach("host-device", "DEL", &container).config(config).run()?.silent()?;
    room.remove(&container)?;
    room.ensure_nothing_left(&before, &["guest"]).with_context(|| config.to_string())
}

fn found(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mac = ip::link(None, "wan0")?.context("no wan0")?["address"].clone();
    cover("/sys/bus")?;
    pci("0000:3b:00.1", "ice", "net/wan0")?;
    pci("0000:3b:00.2", "virtio-pci", "virtio4/net/wan0")?;
    let path = "/sys/devices/virtual/net/lo";
    cover(path)?;
    fs::create_dir_all(format!("{path}/net/wan0"))?;
    let absent = json!({"kernelpath": "/sys/devices/none", "pciBusID": "0000:3b:00.1"});
    for keys in [
        json!({"hwaddr": mac}),
        json!({"kernelpath": path}),
        json!({"pciBusID": "0000:3b:00.1"}),
        json!({"pciBusID": "0000:3b:00.2"}),
        with(&absent, json!({"device": "wan0", "hwaddr": "02:00:00:00:00:99"})),
        with(&absent, json!({"hwaddr": mac})),
    ] {
        comes_and_goes(room, &bare(&keys))?;
    }
    let container = room.container("none")?;
    refused(
        room,
        "host-device",
        &container,
        &bare(&absent),
        "failed to read net directory /sys/devices/none/net",
    )
}

fn allocated(room: &Room) -> Result<()> {
    room.outside(&[])?;
    cover("/sys/bus")?;
    pci("0000:3b:00.1", "ice", "net/wan0")?;
    pci("0000:3b:00.2", "ice", "net/none")?;
    fs::create_dir_all("/sys/bus/auxiliary/devices/mlx5_core.sf.2/net/wan0")?;
    for id in ["0000:3b:00.1", "mlx5_core.sf.2"] {
        for keys in [json!({}), json!({"pciBusID": "0000:3b:00.2"})] {
            let keys = with(&keys, json!({"runtimeConfig": {"deviceID": id}}));
            comes_and_goes(room, &bare(&keys))?;
        }
    }
    let container = room.container("none")?;
    for id in ["0000:3b:00.3", "mlx5_core.sf.3", "../devices/mlx5_core.sf.2", "/etc"] {
        let config = bare(&json!({"runtimeConfig": {"deviceID": id}}));
        let text = format!("runtime config DeviceID {id} not found or unsupported");
        refused(room, "host-device", &container, &config, &text)?;
    }
    Ok(())
}

fn dpdk(room: &Room) -> Result<()> {
    room.outside(&[])?;
    cover("/sys/bus")?;
    for (nth, driver) in ["vfio-pci", "uio_pci_generic", "igb_uio"].into_iter().enumerate() {
        pci(&format!("0000:3b:00.{nth}"), driver, "none")?;
    }
    let before = room.snapshot()?;
    for keys in [
        json!({"pciBusID": "0000:3b:00.0"}),
        json!({"pciBusID": "0000:3b:00.1"}),
        json!({"runtimeConfig": {"deviceID": "0000:3b:00.2"}}),
        json!({"device": "wan0", "DPDKMode": true}),
    ] {
        let config = with(&bare(&keys), json!({"ipam": network(&json!({}))["ipam"]}));
        let (container, result) = add(room, "host-device", "c1", &config)?;
        let interface = json!({"name": "eth0", "sandbox": container.path});
        ensure!(result["interfaces"] == json!([interface]), "{result}");
        ensure!(
            ip::links(Some("c1"))? == ["lo"] && result["ips"].as_array().is_some_and(|ips| ips.len() == 2)
        );
        check(room, "host-device", &container, &config, &result)?.silent()?;
        room.attach("host-device", "DEL", &container).config(&config).run()?.silent()?;
        room.remove(&container)?;
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = network(&json!({}));
    let (container, result) = add(room, "host-device", "c1", &config)?;
    let drift = |script: &str, text: &str| -> Result<()> {
        ip::script(Some("c1"), script)?;
        let error = check(room, "host-device", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(text), "expected {text:?} in {error}");
        Ok(())
    };
    drift("route del default", "route 0.0.0.0/0 on eth0")?;
    drift("addr flush dev eth0", "address of eth0")?;
    drift("link set eth0 down", "state of eth0: expected up")?;
    drift("link set eth0 address 02:00:00:00:00:77", "MAC address of eth0")?;
    drift("link set eth0 name gone0", "interface eth0: expected present")
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    for (keys, text) in [
        (json!({}), r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#),
        (json!({"device": "none0"}), "failed to find host device"),
        (json!({"device": "../wan0"}), "invalid device"),
        (json!({"hwaddr": "x"}), "failed to parse MAC address"),
        (json!({"hwaddr": "02:00:00:00:00:99"}), "failed to find physical interface"),
        (json!({"kernelpath": "/etc"}), "must be absolute and begin with /sys/devices/"),
        (json!({"kernelpath": "/sys/devices/../../etc"}), "must be absolute and begin with /sys/devices/"),
        (json!({"pciBusID": "../../../etc"}), "invalid pciBusID"),
    ] {
        refused(room, "host-device", &container, &bare(&keys), text)?;
    }
    Ok(())
}

fn layer2(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    for version in ["0.1.0", "0.2.0"] {
        let config = bare(&json!({"cniVersion": version, "device": "wan0"}));
        refused(room, "host-device", &container, &config, "cannot convert: no valid IP addresses")?;
    }
    Ok(())
}

fn unfit(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(
        None,
        "link add br0 type bridge
         link add port0 type veth peer name port1
         link set port0 master br0",
    )?;
    let container = room.container("c1")?;
    let refuse = |device: &str, text: &str| {
        refused(room, "host-device", &container, &bare(&json!({"device": device})), text)
    };
    refuse("lo", "a loopback link cannot leave its network namespace")?;
    refuse("port0", r#"it is a port of "br0""#)?;
    refuse("br0", "links of bridge cannot leave their network namespace")?;
    ip::run(&["route", "add", "default", "via", "198.51.100.2"])?;
    refuse("wan0", r#"the host's only default route of IPv4; "takeDefaultRoute": true"#)?;
    // One of the other family, by another link, does not replace it.
    allow_ipv6(&["port1"])?;
    ip::script(None, "link set port1 up\n link set port0 up\n -6 route add default dev port1 metric 2000")?;
    refuse("wan0", "the host's only default route of IPv4")?;
    ip::script(None, "-6 route del default dev port1 metric 2000")?;
    comes_and_goes(room, &bare(&json!({"device": "wan0", "takeDefaultRoute": true})))?;
    add(room, "host-device", "holder", &bare(&json!({"device": "port1"})))?;
    refuse("port1", "interface eth0 of container holder (network lan) has it")?;
    // A name that the container has already.
    ip::run_in("c1", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"])?;
    refuse("wan0", "file exists")
}

fn race(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let config = bare(&json!({"device": "wan0"}));
    for _ in 0..5 {
        let containers: Vec<Container> =
            (0..4).map(|nth| room.container(&format!("c{nth}"))).collect::<Result<_>>()?;
        let answers = harness::stage::lan::at_once(room, "ADD", &containers, &config)?;
        let winners = answers.iter().filter(|answer| answer.succeeded()).count();
        ensure!(winners == 1, "{winners} of 4 got it");
        for (container, answer) in containers.iter().zip(answers) {
            room.attach("host-device", "DEL", container).config(&config).run()?.silent()?;
            if !answer.succeeded() {
                answer.refused("failed to")?;
            }
            room.remove(container)?;
        }
        room.ensure_nothing_left(&before, &["c0", "c1", "c2", "c3"])?;
    }
    Ok(())
}
