//! The files for Kubernetes, by the fields that its API has: one that it does not know is an error
//! here, where the API would drop it.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;

type Labels = BTreeMap<String, String>;

/// apps/v1, DaemonSet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DaemonSet {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    name: Option<String>,
    labels: Labels,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    selector: Selector,
    update_strategy: UpdateStrategy,
    template: Template,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Selector {
    match_labels: Labels,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Template {
    metadata: Metadata,
    spec: Pod,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Pod {
    host_network: bool,
    priority_class_name: String,
    node_selector: Labels,
    tolerations: Vec<Toleration>,
    automount_service_account_token: bool,
    enable_service_links: bool,
    termination_grace_period_seconds: u32,
    security_context: PodSecurity,
    init_containers: Vec<Container>,
    containers: Vec<Container>,
    volumes: Vec<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Toleration {
    operator: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSecurity {
    run_as_user: u32,
    run_as_group: u32,
    seccomp_profile: Typed,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Container {
    name: String,
    image: String,
    image_pull_policy: String,
    args: Vec<String>,
    security_context: Security,
    resources: Resources,
    #[serde(default)]
    volume_mounts: Vec<Mount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Security {
    privileged: bool,
    allow_privilege_escalation: bool,
    read_only_root_filesystem: bool,
    capabilities: Capabilities,
    se_linux_options: Option<Typed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Capabilities {
    drop: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    requests: BTreeMap<String, String>,
    limits: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Mount {
    name: String,
    mount_path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Volume {
    name: String,
    host_path: HostPath,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HostPath {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

/// kustomize.config.k8s.io/v1beta1, Kustomization.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    namespace: String,
    resources: Vec<String>,
    images: Vec<Image>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_tag: String,
}

fn text(name: &str) -> String {
    fs::read_to_string(format!("{}/deploy/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn daemon_set() -> DaemonSet {
    serde_saphyr::from_str(&text("daemonset.yaml")).unwrap()
}

#[test]
fn the_pod_has_fields_of_kubernetes_alone_and_selects_itself() {
    let set = daemon_set();
    assert_eq!((set.api_version.as_str(), set.kind.as_str()), ("apps/v1", "DaemonSet"));
    assert_eq!(set.spec.selector.match_labels, set.spec.template.metadata.labels);
    assert_eq!(set.metadata.labels, set.spec.template.metadata.labels);
    let update = &set.spec.update_strategy;
    assert_eq!(update.kind, "RollingUpdate");
    assert!(update.rolling_update.keys().eq(["maxUnavailable"]));
    let base: Kustomization = serde_saphyr::from_str(&text("kustomization.yaml")).unwrap();
    assert_eq!((base.kind.as_str(), base.namespace.as_str()), ("Kustomization", "kube-system"));
    assert_eq!(base.api_version, "kustomize.config.k8s.io/v1beta1");
    assert_eq!(base.resources, ["daemonset.yaml"]);
    assert_eq!(Some(&base.images[0].name), set.metadata.name.as_ref());
    assert_eq!(base.images[0].new_tag, env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_pod_runs_on_every_node_and_asks_nothing_of_kubernetes() {
    let pod = daemon_set().spec.template.spec;
    assert!(pod.host_network && !pod.automount_service_account_token && !pod.enable_service_links);
    assert_eq!(pod.priority_class_name, "system-node-critical");
    assert_eq!(pod.node_selector["kubernetes.io/os"], "linux");
    assert_eq!(pod.tolerations.len(), 1);
    assert_eq!(pod.tolerations[0].operator, "Exists");
    assert!(pod.termination_grace_period_seconds < 30);
}

#[test]
fn containers_have_no_rights_but_to_write_where_they_install() {
    let pod = daemon_set().spec.template.spec;
    assert_eq!((pod.security_context.run_as_user, pod.security_context.run_as_group), (0, 0));
    assert_eq!(pod.security_context.seccomp_profile.kind, "RuntimeDefault");
    for container in pod.init_containers.iter().chain(&pod.containers) {
        let security = &container.security_context;
        assert!(!security.privileged && !security.allow_privilege_escalation, "{}", container.name);
        assert!(security.read_only_root_filesystem, "{}", container.name);
        assert_eq!(security.capabilities.drop, ["ALL"], "{}", container.name);
        assert_eq!(
            (container.image.as_str(), container.image_pull_policy.as_str()),
            ("moor-install", "IfNotPresent")
        );
        assert!(container.resources.requests.contains_key("cpu"));
        assert!(container.resources.limits.contains_key("memory"));
    }
    let [install] = &pod.init_containers[..] else { panic!("one installs") };
    let [wait] = &pod.containers[..] else { panic!("one waits") };
    assert_eq!(
        (install.args.as_slice(), wait.args.as_slice()),
        (&["install".into()][..], &["wait".into()][..])
    );
    assert_eq!(install.security_context.se_linux_options.as_ref().unwrap().kind, "spc_t");
    assert!(wait.volume_mounts.is_empty() && wait.security_context.se_linux_options.is_none());
    for mount in &install.volume_mounts {
        let volume = pod.volumes.iter().find(|volume| volume.name == mount.name).unwrap();
        assert_eq!(mount.mount_path, format!("/host{}", volume.host_path.path));
        assert_eq!(volume.host_path.kind, "DirectoryOrCreate");
    }
    assert_eq!(install.volume_mounts.len(), pod.volumes.len());
}
