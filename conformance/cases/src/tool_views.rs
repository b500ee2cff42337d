//! `moor ps` and `moor who`: whose is it. What is expected is read with `ip`, never with the tool.

use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Value, json};

use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/ps_pairs_links_of_ours_after_a_rename", &["T-030"], paired_ours),
    case("tool/ps_pairs_links_of_the_reference_after_a_rename", &["T-030"], paired_reference).needs(&[
        Need::Tool,
        Need::Reference,
        Need::Macvlan,
    ]),
    case("tool/ps_pairs_ipvlan_after_a_rename", &["T-030"], paired_ipvlan).needs(&[Need::Tool, Need::Ipvlan]),
    case("tool/ps_of_a_record_without_a_namespace_uses_the_results", &["T-025"], without_netns),
    case("tool/who_names_the_owner_of_each_thing", &["T-031"], who),
    case("tool/views_change_nothing", &["T-006"], unchanged),
];

/// A list of one attaching plugin and others, on a subnet of its own.
pub fn list(name: &str, subnet: &str, plugin: &Value, others: &[Value]) -> Result<Conflist> {
    let mut plugin = plugin.clone();
    plugin["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": subnet}]]});
    let plugins: Vec<&Value> = [&plugin].into_iter().chain(others).collect();
    let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins});
    Conflist::from_bytes(list.to_string().as_bytes()).context("a list of this case")
}

/// Attaches a container as a runtime does, which keeps a record.
pub fn attach(plugins: &Path, list: &Conflist, container: &Container, keys: &Value) -> Result<Value> {
    let mut runtime = Runtime::new(vec![plugins.to_owned()], "/var/lib/cni");
    runtime.forward_stderr = false;
    let path = container.path.to_string_lossy().into_owned();
    let mut attachment = Attachment::new(&container.id, path, keys["ifname"].as_str().unwrap_or("eth0"));
    let args = keys["args"].as_object().into_iter().flatten();
    attachment.args = args.map(|(key, value)| (key.clone(), value.as_str().unwrap_or("").into())).collect();
    attachment.capabilities = keys["capabilities"].as_object().cloned().unwrap_or_default();
    runtime.add(list, &attachment).with_context(|| format!("attach {} to {}", container.id, list.name))
}

/// The items of a view's document, after this exit status.
pub fn items(room: &Room, words: &[&str], exit: i32) -> Result<Vec<Value>> {
    let answer = room.tool(&[words, &["--json"]].concat()).run()?;
    ensure!(answer.status.code() == Some(exit), "{words:?}: {}", answer.summary());
    answer.document()?["items"].as_array().cloned().context("a document has items")
}

/// The host's link that a container's link leads to, by index and the way back.
fn host_end(container: &str, link: &str) -> Result<Value> {
    let own = ip::link(Some(container), link)?.with_context(|| format!("no {link} in {container}"))?;
    let index = &own["link_index"];
    let all = ip::rows(None, &["link", "show"])?;
    all.into_iter().find(|link| link["ifindex"] == *index).context("no link of the host has that index")
}

/// The only item of a container and an interface.
fn one(items: &[Value], id: &str, ifname: &str) -> Result<Value> {
    let is_it = |item: &&Value| item["containerId"] == id && item["ifname"] == ifname;
    let found: Vec<_> = items.iter().filter(is_it).collect();
    ensure!(found.len() == 1, "{id} {ifname}: {found:?} of {items:?}");
    Ok(found[0].clone())
}

/// Attaches a container by each list, renames both ends, and compares what ps shows.
fn paired(room: &Room, plugins: &Path, lists: &[Conflist]) -> Result<()> {
    for (nth, list) in lists.iter().enumerate() {
        let id = format!("view-{nth}");
        let result = attach(plugins, list, &room.container(&id)?, &json!({}))?;
        let item = one(&items(room, &["ps"], 0)?, &id, "eth0")?;
        let host = host_end(&id, "eth0")?;
        let address = result["ips"][0]["address"].as_str().unwrap_or_default();
        let address = address.split('/').next().unwrap_or_default();
        ensure!(item["state"] == "up" && item["addresses"][0] == address, "{item}");
        ensure!(
            item["hostLink"] == host["ifname"] && item["hostIfindex"] == host["ifindex"],
            "{item}: {host}"
        );
        ensure!(item["network"] == list.name.as_str(), "{item}");

        let name = host["ifname"].as_str().context("a link has a name")?;
        ip::run(&["link", "set", name, "down"])?;
        ip::run(&["link", "set", name, "name", &format!("host-end{nth}")])?;
        ip::run_in(&id, &["link", "set", "eth0", "down"])?;
        ip::run_in(&id, &["link", "set", "eth0", "name", "renamed"])?;
        let item = one(&items(room, &["ps", &id], 0)?, &id, "eth0")?;
        let host = host_end(&id, "renamed")?;
        ensure!(
            item["hostLink"] == host["ifname"] && item["hostIfindex"] == host["ifindex"],
            "{item}: {host}"
        );
        let drift = item["drift"].as_array().context("the names differ")?;
        let is_name = |drift: &Value| drift["what"] == "link" && drift["actual"] == "renamed";
        ensure!(item["state"] == "drift" && drift.iter().any(is_name), "{item}");
        if ip::link(None, "wan0")?.is_none() && host["ifname"] == format!("host-end{nth}") {
            // The next list has this link as its parent.
            ip::run(&["link", "set", &format!("host-end{nth}"), "name", name])?;
        }
        ip::run(&["link", "set", name, "up"]).ok();
    }
    Ok(())
}

fn paired_ours(room: &Room) -> Result<()> {
    let bridge = json!({"type": "bridge", "bridge": "view0", "isGateway": true});
    paired(
        room,
        &room.suite,
        &[
            list("view", "10.181.1.0/24", &bridge, &[])?,
            list("way", "10.181.2.0/24", &json!({"type": "ptp"}), &[])?,
        ],
    )?;

    // A veth that somebody made by hand: no file knows it.
    let hand = room.container("view-hand")?;
    ip::run(&["link", "add", "hand0", "type", "veth", "peer", "name", "hand1", "netns", "view-hand"])?;
    let shown = items(room, &["ps", "--all"], 0)?;
    let item = one(&shown, &hand.id, "hand1")?;
    let host = host_end("view-hand", "hand1")?;
    ensure!(item["state"] == "unrecorded" && item["hostIfindex"] == host["ifindex"], "{item}: {host}");
    ensure!(items(room, &["ps", "view-hand"], 0)?.is_empty(), "ps shows it without --all");
    Ok(())
}

fn paired_reference(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let bridge = json!({"type": "bridge", "bridge": "view0", "isGateway": true});
    let macvlan = json!({"type": "macvlan", "master": "wan0"});
    let lists = [
        list("view", "10.181.1.0/24", &bridge, &[])?,
        list("way", "10.181.2.0/24", &json!({"type": "ptp"}), &[])?,
        list("lan", "10.181.3.0/24", &macvlan, &[])?,
    ];
    paired(room, &room.reference, &lists)
}

fn paired_ipvlan(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let ipvlan = json!({"type": "ipvlan", "master": "wan0"});
    paired(room, &room.suite, &[list("lan", "10.181.3.0/24", &ipvlan, &[])?])
}

/// podman's records name the namespace in the result alone.
fn without_netns(room: &Room) -> Result<()> {
    let list = list("view", "10.181.1.0/24", &json!({"type": "bridge", "bridge": "view0"}), &[])?;
    let container = room.container("view-podman")?;
    let args = json!({"IgnoreUnknown": "1", "K8S_POD_NAME": "web"});
    attach(&room.suite, &list, &container, &json!({"args": args}))?;
    let file = "/var/lib/cni/results/view-view-podman-eth0";
    let mut record: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    record.as_object_mut().context("a record is an object")?.remove("netns").context("it has a netns")?;
    std::fs::write(file, record.to_string())?;
    let item = one(&items(room, &["ps", "web"], 0)?, "view-podman", "eth0")?;
    ensure!(
        item["state"] == "up" && item["name"] == "web" && item["netns"] == json!(container.path),
        "{item}"
    );
    Ok(())
}

/// A process in a container's namespace.
struct Inside(Child);

impl Inside {
    fn start(container: &Container) -> Result<Self> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", container.path.display())).args(["sleep", "60"]);
        Ok(Self(command.spawn().context("start sleep in the container")?))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn who(room: &Room) -> Result<()> {
    let bridge = json!({"type": "bridge", "bridge": "view0", "isGateway": true});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let list = list("view", "10.181.1.0/24", &bridge, &[portmap])?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let pod = json!({"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "web-1", "IgnoreUnknown": "1"});
    let web = room.container("aaaa1111bbbb")?;
    let keys = json!({"args": pod, "capabilities": {"portMappings": ports}});
    let result = attach(&room.suite, &list, &web, &keys)?;
    let other = room.container("aaaa2222bbbb")?;
    attach(&room.suite, &list, &other, &json!({}))?;
    let address =
        result["ips"][0]["address"].as_str().unwrap_or_default().split('/').next().unwrap_or_default();
    let mac = ip::link(Some(&web.id), "eth0")?.context("no eth0")?["address"].clone();
    let host = host_end(&web.id, "eth0")?;
    let process = Inside::start(&web)?;
    let (index, pid) = (host["ifindex"].to_string(), format!("pid:{}", process.0.id()));
    let path = web.path.to_string_lossy().into_owned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (what, evidence) in [
        (address.to_owned(), "address in its namespace"),
        ("8080".into(), "published (nf_tables inet moor)"),
        ("8080/tcp".into(), "published (nf_tables inet moor)"),
        ("192.0.2.7:8080".into(), "published (nf_tables inet moor)"),
        (text(&mac), "link in its namespace"),
        (text(&host["ifname"]), "leads there"),
        (index, "leads there"),
        (pid, "process"),
        (path, "namespace"),
        ("aaaa1".into(), "name or id"),
        ("shop/web-1".into(), "name or id"),
    ] {
        let found = items(room, &["who", &what], 0)?;
        ensure!(found.len() == 1, "{what}: {found:?}");
        let item = &found[0];
        ensure!(item["containerId"] == web.id.as_str() && item["network"] == "view", "{what}: {item}");
        let known =
            item["evidence"].as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join("; ");
        ensure!(known.contains(evidence), "{what}: {item}");
    }
    let address_item = &items(room, &["who", address], 0)?[0];
    ensure!(
        address_item["evidence"] == json!(["address in its namespace", "lease", "cache"]),
        "{address_item}"
    );

    let candidates = items(room, &["who", "aaaa"], 1)?;
    ensure!(candidates.len() == 2, "the candidates: {candidates:?}");
    let nobody = room.tool(&["who", "10.181.1.200", "--json"]).run()?;
    ensure!(nobody.status.code() == Some(1), "{}", nobody.summary());
    let notes = nobody.document()?["notes"].to_string();
    ensure!(notes.contains("10.181.1.0/24 of network") || notes.contains("leads by view0"), "{notes}");
    ensure!(room.tool(&["who", "9999"]).run()?.status.code() == Some(1), "nobody has port 9999");
    Ok(())
}

fn unchanged(room: &Room) -> Result<()> {
    let list =
        list("view", "10.181.1.0/24", &json!({"type": "bridge", "bridge": "view0", "isGateway": true}), &[])?;
    for nth in 0..20 {
        attach(&room.suite, &list, &room.container(&format!("view-{nth}"))?, &json!({}))?;
    }
    let before = room.snapshot()?;
    let files = room.files();
    let views: [&[&str]; 9] = [
        &["ps"],
        &["ps", "--all"],
        &["who", "10.181.1.2", "8080", "view0"],
        &["ports"],
        &["names"],
        &["names", "--ask"],
        &["leases"],
        &["leases", "--leaked", "--older-than", "0s"],
        &["network", "ls"],
    ];
    for words in views {
        let answer = room.tool(words).run()?;
        ensure!(answer.status.code().is_some_and(|code| [0, 1, 3].contains(&code)), "{}", answer.summary());
    }
    ensure!(room.files() == files, "the files differ");
    room.ensure_unchanged(&before, "a view")
}
