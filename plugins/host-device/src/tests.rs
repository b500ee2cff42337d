//! Plans and errors of the configuration; needs neither root nor kernel.

use std::fs;
use std::os::unix::fs::symlink;

use cni::{AddResult, testing};
use host::Owner;

use crate::config::Config;
use crate::device::Device;
use crate::plan;
use crate::sysfs::Sysfs;

/// A sysfs with a PCI device of the kernel's, one of a program's, and an auxiliary device.
fn sysfs() -> (tempfile::TempDir, Sysfs) {
    let dir = tempfile::tempdir().unwrap();
    for (device, driver) in [("0000:01:00.0", "ice"), ("0000:01:00.1", "vfio-pci")] {
        let path = dir.path().join("bus/pci/devices").join(device);
        fs::create_dir_all(&path).unwrap();
        symlink(format!("../drivers/{driver}"), path.join("driver")).unwrap();
    }
    fs::create_dir_all(dir.path().join("bus/auxiliary/devices/mlx5_core.sf.2")).unwrap();
    let sysfs = Sysfs::new(dir.path());
    (dir, sysfs)
}

fn config(keys: &str) -> Result<Config, cni::Error> {
    let (_dir, sysfs) = sysfs();
    Config::with(&testing::add_with("host-device", keys, ""), &sysfs)
}

#[test]
fn the_first_given_way_to_find_the_device_counts() {
    let all = [
        (r#""device": "eno1""#, Device::Name("eno1".into())),
        (r#""hwaddr": "02-00-00-00-00-01""#, Device::Mac("02:00:00:00:00:01".parse().unwrap())),
        (r#""kernelpath": "/sys/devices/pci0000:00/x""#, Device::Path("/sys/devices/pci0000:00/x".into())),
        (r#""pciBusID": "0000:01:00.0""#, Device::Pci("0000:01:00.0".into())),
    ];
    for (first, (_, device)) in all.iter().enumerate() {
        let keys: Vec<&str> = all.iter().skip(first).map(|(key, _)| *key).collect();
        assert_eq!(config(&keys.join(", ")).unwrap().device, *device);
    }
}

#[test]
fn the_device_that_the_runtime_allocated_replaces_the_configured_one() {
    let of = |id: &str, keys: &str| config(&format!(r#"{keys}"runtimeConfig": {{"deviceID": "{id}"}}"#));
    let pci = r#""pciBusID": "0000:01:00.0", "#;
    for keys in ["", pci] {
        assert_eq!(of("0000:01:00.1", keys).unwrap().device, Device::Pci("0000:01:00.1".into()));
        let auxiliary = Device::Auxiliary("mlx5_core.sf.2".into());
        assert_eq!(of("mlx5_core.sf.2", keys).unwrap().device, auxiliary);
        for unknown in ["0000:09:00.0", "../devices/mlx5_core.sf.2", "..", "no", "a/b"] {
            let error = of(unknown, keys).unwrap_err();
            assert!(error.msg.contains("not found or unsupported"), "{unknown}: {error:?}");
        }
    }
    assert_eq!(of("", r#""device": "eno1", "#).unwrap().device, Device::Name("eno1".into()));
}

#[test]
fn a_device_of_a_program_is_known_by_its_driver() {
    assert!(config(r#""pciBusID": "0000:01:00.1""#).unwrap().dpdk);
    assert!(!config(r#""pciBusID": "0000:01:00.0", "DPDKMode": true"#).unwrap().dpdk);
    assert!(config(r#""device": "eno1", "DPDKMode": true"#).unwrap().dpdk);
    assert!(config(r#""pciBusID": "0000:07:00.0""#).unwrap_err().msg.contains("driver of 0000:07:00.0"));
}

#[test]
fn errors_name_the_fault_of_the_configuration() {
    for (keys, text) in [
        ("", r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#),
        (r#""device": """#, "specify either"),
        (r#""device": "a/b""#, r#"invalid device "a/b""#),
        (r#""device": "..""#, "invalid device"),
        (r#""device": "a b""#, "invalid device"),
        (r#""hwaddr": "zz""#, r#"failed to parse MAC address "zz""#),
        (r#""kernelpath": "sys/devices/x""#, "must be absolute and begin with /sys/devices/"),
        (r#""kernelpath": "/sys/devices/../../etc""#, "must be absolute and begin with /sys/devices/"),
        (r#""kernelpath": "/proc/x""#, "must be absolute and begin with /sys/devices/"),
        (r#""pciBusID": "01:00.0""#, r#"invalid pciBusID "01:00.0""#),
        (r#""pciBusID": "../0000:01:00.0""#, "invalid pciBusID"),
        (r#""pciBusID": "0000:01:00.0/..""#, "invalid pciBusID"),
    ] {
        let error = config(keys).unwrap_err();
        assert_eq!(error.code, 7, "{keys}: {error:?}");
        assert!(error.msg.contains(text), "{keys}: {error:?}");
    }
    for keys in [r#""device": 5"#, r#""DPDKMode": "yes""#, r#""restoreAddresses": 1"#] {
        let error = config(keys).unwrap_err();
        assert!(error.msg.starts_with("failed to load netconf: "), "{keys}: {error:?}");
    }
}

/// The plan, one piece per line.
fn plan_of(result: &AddResult, carrier: bool) -> String {
    let owner = Owner::new("net", "c1", "eth0");
    let config = config(r#""device": "eno1""#).unwrap();
    let mut plan = vec![plan::device(&config, &owner, "/run/netns/c1", "eno1", None)];
    let own: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    plan.extend(plan::rest("eth0", result, &own, config.dad, carrier));
    plan.iter().map(|piece| format!("{piece:?}\n")).collect()
}

#[test]
fn a_dual_stack_network_plans_the_device_its_addresses_and_routes() {
    let ips = [("10.1.2.3/24", Some("10.1.2.1")), ("fd00:1::3/64", None)];
    let result = AddResult {
        ips: ips.map(|(address, gateway)| testing::ip(Some(0), address, gateway)).into(),
        routes: vec![testing::route("0.0.0.0/0")],
        ..AddResult::default()
    };
    testing::golden("host-device", "dual-stack", &plan_of(&result, true));
    assert!(!plan_of(&result, false).contains("Settled"), "without a carrier nothing is waited for");
}

#[test]
fn without_an_ipam_plugin_the_device_is_only_up() {
    testing::golden("host-device", "layer2", &plan_of(&AddResult::default(), true));
}
