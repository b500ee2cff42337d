//! CHECK, GC, STATUS and VERSION.

use super::*;

fn check(host: &HostOfTest, id: &str, ips: &[&str]) -> Result<(), String> {
    let mut conf = conf(&small());
    let ips: Vec<Value> = ips.iter().map(|ip| json!({ "address": format!("{ip}/26") })).collect();
    conf["prevResult"] = json!({ "cniVersion": "1.1.0", "ips": ips });
    match host.run("CHECK", id, "", &conf) {
        (0, _) => Ok(()),
        (_, error) => Err(error["msg"].as_str().unwrap().to_owned()),
    }
}

#[test]
fn check_names_what_is_not_leased_and_what_is_another_hosts_now() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let given = host.add("c1", &small()).unwrap().remove(0);
    assert_eq!(check(host, "c1", &[&given, "192.0.2.9"]), Ok(()));
    let error = check(host, "c2", &[&given]).unwrap_err();
    assert_eq!(error, "cluster: Failed to find address added by container c2");
    let error = check(host, "c1", &["10.9.0.62"]).unwrap_err();
    assert!(error.contains("expected: leased to c1 eth0, actual: not leased"), "{error}");
    hosts.truth.lock().unwrap().blocks.values_mut().for_each(|owner| *owner = 1);
    hosts.truth.lock().unwrap().write(0);
    let error = check(host, "c1", &[&given]).unwrap_err();
    assert!(error.contains("actual: another's: host host1"), "{error}");
    fs::remove_dir_all(host.dir.join("state")).unwrap();
    let error = check(host, "c1", &[&given]).unwrap_err();
    assert!(error.contains("actual: this host has no blocks"), "{error}");
}

/// O-099
#[test]
fn gc_frees_what_is_not_valid_on_this_host_alone() {
    let hosts = Hosts::new(2);
    for host in &hosts.hosts {
        host.add("c1", &small()).unwrap();
        host.add("c2", &small()).unwrap();
    }
    let host = &hosts.hosts[0];
    let mut conf = conf(&small());
    assert_eq!(host.run("GC", "", "", &conf).0, 0);
    assert_eq!(host.leases().len(), 2, "without the key nothing is collected");
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "c2", "ifname": "eth0" }]);
    assert_eq!(host.run("GC", "", "", &conf), (0, Value::Null));
    assert_eq!(host.leases().into_values().collect::<Vec<_>>(), ["c2\r\neth0"]);
    assert_eq!(hosts.hosts[1].leases().len(), 2);
}

#[test]
fn status_is_50_when_no_address_is_to_be_had() {
    let hosts = Hosts::new(1);
    let host = &hosts.hosts[0];
    let status = || host.run("STATUS", "", "", &conf(&tiny()));
    assert_eq!(status(), (0, Value::Null));
    assert!(!host.network_dir().exists(), "STATUS makes nothing");
    hosts.truth.lock().unwrap().away = true;
    let (_, error) = status();
    assert_eq!(error["code"], json!(50));
    assert!(error["msg"].as_str().unwrap().contains("connection refused"), "{error}");
    hosts.truth.lock().unwrap().away = false;
    let mut added = 0;
    while host.add(&format!("c{added}"), &tiny()).is_ok() {
        assert_eq!(host.run("STATUS", "", "", &conf(&tiny())).0 == 0, added < 3);
        added += 1;
    }
    assert_eq!(added, 4, "all but network, gateway, broadcast and the host's own");
    let (_, error) = status();
    assert_eq!(error["code"], json!(50));
    assert!(error["msg"].as_str().unwrap().contains("10.9.0.0/29"), "{error}");
    host.del("c0", &tiny());
    assert_eq!(status(), (0, Value::Null));
    fs::remove_file(&host.plugin.host.settings).unwrap();
    assert_eq!(status().1["code"], json!(7));
}

#[test]
fn all_versions_are_known() {
    let hosts = Hosts::new(1);
    let (status, printed) = hosts.hosts[0].run("VERSION", "", "", &json!({ "cniVersion": "1.1.0" }));
    assert_eq!((status, printed["supportedVersions"].as_array().unwrap().len()), (0, 7));
    assert!(hosts.home.path().exists());
}
