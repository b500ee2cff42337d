//! Who an attachment belongs to: the names that a person knows, and the runtime.

use std::path::{Path, PathBuf};

use runtime::Record;
use serde_json::Value;

use crate::files;

use super::Pod;
use super::cgroup::Contained;

/// Where nerdctl keeps the names of its containers.
const NERDCTL: &str = "/var/lib/nerdctl";
/// The longest file of a container's names that is read, in bytes.
const META_MAX: u64 = 1024 * 1024;
/// The most data stores of nerdctl that are looked into.
const STORES_MAX: usize = 16;

/// The pod that `CNI_ARGS` name.
pub fn pod(record: &Record) -> Option<Pod> {
    Some(Pod {
        namespace: arg(record, "K8S_POD_NAMESPACE")?.to_owned(),
        name: arg(record, "K8S_POD_NAME")?.to_owned(),
        uid: arg(record, "K8S_POD_UID").map(ToOwned::to_owned),
    })
}

/// The container's name: `namespace/pod` under Kubernetes, podman's or `moor run`'s, or nerdctl's.
pub fn name(record: &Record, stores: &[PathBuf]) -> Option<String> {
    if let Some(pod) = pod(record) {
        return Some(format!("{}/{}", pod.namespace, pod.name));
    }
    let given = arg(record, "K8S_POD_NAME").map(ToOwned::to_owned);
    given.or_else(|| nerdctl_name(&record.attachment.container_id, stores))
}

/// The runtime: by the cgroup of the container's processes, else by what only one runtime writes.
pub fn runtime(record: &Record, path: Option<&str>, contained: Option<&Contained>) -> Option<&'static str> {
    let id = &record.attachment.container_id;
    let has = |prefix: &str| record.attachment.args.iter().any(|(key, _)| key.starts_with(prefix));
    let file = path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let is_pod = has("K8S_POD_NAMESPACE");
    if let Some(runtime) = contained.and_then(|contained| contained.runtime) {
        Some(runtime)
    } else if is_moor_id(id) {
        Some("moor")
    } else if has("NERDCTL_") {
        Some("nerdctl")
    } else if has("NOMAD_") {
        Some("nomad")
    } else if is_pod && file.starts_with("cni-") {
        Some("containerd")
    } else if is_pod {
        // CRI-O names the namespace by a UUID.
        (file.len() == 36).then_some("cri-o")
    } else {
        // Its records have no path of the namespace.
        let is_podmans = record.attachment.netns.is_none() && file.starts_with("netns-");
        is_podmans.then_some("podman")
    }
}

/// Whether `moor run` made this id.
fn is_moor_id(id: &str) -> bool {
    let hex = id.strip_prefix("moor-").unwrap_or_default();
    hex.len() == 8 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn arg<'r>(record: &'r Record, key: &str) -> Option<&'r str> {
    let found = record.attachment.args.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
}

/// The directories in which nerdctl keeps names, one for each daemon.
pub fn nerdctl_stores() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(NERDCTL).into_iter().flatten().flatten();
    let stores = entries.map(|entry| entry.path().join("etchosts"));
    stores.filter(|dir| dir.is_dir()).take(STORES_MAX).collect()
}

/// nerdctl's id on the networks is `<namespace>-<id>`.
fn nerdctl_name(container_id: &str, stores: &[PathBuf]) -> Option<String> {
    let (namespace, id) = container_id.rsplit_once('-')?;
    let is_plain = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty() && !part.starts_with('.') && part.len() < 256 && part.bytes().all(plain)
    };
    if !is_plain(namespace) || !is_plain(id) {
        return None;
    }
    stores.iter().find_map(|store| name_in(&store.join(namespace).join(id).join("meta.json")))
}

fn name_in(meta: &Path) -> Option<String> {
    let meta: Value = serde_json::from_slice(&files::read(meta, META_MAX).ok()?).ok()?;
    meta.get("Name").and_then(Value::as_str).filter(|name| !name.is_empty()).map(ToOwned::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use runtime::Attachment;

    use super::*;

    fn record(id: &str, netns: Option<&str>, args: &[(&str, &str)]) -> Record {
        let mut attachment = Attachment::new(id, netns.map(ToOwned::to_owned), "eth0");
        attachment.args = args.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Record { network: "front".into(), attachment, config: Vec::new(), result: None }
    }

    #[test]
    fn each_runtimes_record_has_its_name() {
        let pod_args = [("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-1"), ("K8S_POD_UID", "u")];
        let of = |record: &Record, path: &str| runtime(record, Some(path), None);
        let cri = record("c", Some("/x"), &pod_args);
        assert_eq!(name(&cri, &[]).unwrap(), "shop/web-1");
        assert_eq!(pod(&cri).unwrap().uid.unwrap(), "u");
        assert_eq!(of(&cri, "/var/run/netns/cni-0f3c1c52-1111-2222-3333-444455556666"), Some("containerd"));
        assert_eq!(of(&cri, "/var/run/netns/0f3c1c52-1111-2222-3333-444455556666"), Some("cri-o"));
        let podman = record("c", None, &[("IgnoreUnknown", "1"), ("K8S_POD_NAME", "web")]);
        assert_eq!(name(&podman, &[]).unwrap(), "web");
        assert_eq!(of(&podman, "/run/netns/netns-0f3c1c52-1111-2222-3333-444455556666"), Some("podman"));
        assert_eq!(of(&record("moor-0123abcd", Some("/x"), &[]), "/x"), Some("moor"));
        assert_eq!(of(&record("c1", Some("/x"), &[]), "/run/netns/c1"), None);
        let by_cgroup = Contained { id: "c".into(), runtime: Some("cri-o"), pod_uid: None };
        assert_eq!(runtime(&cri, None, Some(&by_cgroup)), Some("cri-o"));
    }

    #[test]
    fn nerdctls_name_is_in_its_own_file_and_an_id_leads_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let of = |id: &str| name(&record(id, Some("/x"), &[]), &[dir.path().to_owned()]);
        let own = dir.path().join("my-ns/4d26");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(own.join("meta.json"), r#"{"Name":"web"}"#).unwrap();
        std::fs::write(dir.path().join("meta.json"), r#"{"Name":"other"}"#).unwrap();
        assert_eq!(of("my-ns-4d26").as_deref(), Some("web"));
        assert_eq!(of("..-."), None);
        assert_eq!(of("my-ns/..-4d26"), None);
        assert_eq!(of("c1"), None);
    }
}
