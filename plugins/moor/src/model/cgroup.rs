//! Which container a process belongs to, by its cgroup.

/// A container, as the cgroup of its processes names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contained {
    /// The container's id.
    pub id: String,
    /// The runtime; none when the name of the cgroup does not show it.
    pub runtime: Option<&'static str>,
    /// The pod's UID, under Kubernetes.
    pub pod_uid: Option<String>,
}

/// What a cgroup's name begins with, and the runtime that names it so. The monitor of a container
/// (conmon) is in a cgroup of its own.
const PREFIXES: [(&str, &str); 7] = [
    ("cri-containerd-", "containerd"),
    ("crio-conmon-", "cri-o"),
    ("crio-", "cri-o"),
    ("libpod-conmon-", "podman"),
    ("libpod-", "podman"),
    ("nerdctl-", "nerdctl"),
    ("docker-", "docker"),
];

/// The length of a container's id in hex, and of a UUID.
const ID: usize = 64;
const UUID: usize = 36;

/// The container of a process, by its `/proc/<pid>/cgroup`.
pub fn contained(text: &str) -> Option<Contained> {
    text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(of_path)
}

fn of_path(path: &str) -> Option<Contained> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    // The outermost: a container may name cgroups below its own as it likes.
    let (at, (id, runtime)) = parts.iter().enumerate().find_map(|(at, part)| {
        let parent = at.checked_sub(1).and_then(|parent| parts.get(parent)).copied();
        Some((at, of_part(part, parent.unwrap_or_default())?))
    })?;
    let pod_uid = parts.iter().take(at).rev().find_map(|part| pod_uid(part));
    Some(Contained { id: id.to_owned(), runtime, pod_uid })
}

fn of_part<'p>(part: &'p str, parent: &str) -> Option<(&'p str, Option<&'static str>)> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    for (prefix, runtime) in PREFIXES {
        if let Some(id) = name.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((id, Some(runtime)));
        }
    }
    // Without systemd, the cgroup's name is the id alone.
    if name.len() == ID && is_id(name) {
        return Some((name, (parent == "docker").then_some("docker")));
    }
    // Nomad: `<allocation>.<task>.scope`.
    let (allocation, _) = name.split_once('.').filter(|_| part.ends_with(".scope"))?;
    is_uuid(allocation).then_some((allocation, Some("nomad")))
}

fn pod_uid(part: &str) -> Option<String> {
    let part = part.strip_suffix(".slice").unwrap_or(part);
    let uid = part.strip_prefix("pod").or_else(|| part.rsplit_once("-pod").map(|(_, uid)| uid))?;
    // systemd's names have a hyphen for a level.
    let uid = uid.replace('_', "-");
    is_uuid(&uid).then_some(uid)
}

fn is_id(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_uuid(text: &str) -> bool {
    let is_right = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == UUID && text.bytes().enumerate().all(is_right)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    const A: &str = "4d266b15d06e4d266b15d06e4d266b15d06e4d266b15d06e4d266b15d06eabcd";
    const U: &str = "0f3c1c52-1111-2222-3333-444455556666";

    fn read(path: &str) -> Option<(String, Option<&'static str>, Option<String>)> {
        contained(&format!("1:name=systemd:/\n0::{path}\n")).map(|c| (c.id, c.runtime, c.pod_uid))
    }

    #[test]
    fn each_runtimes_cgroup_names_its_container() {
        let pod = format!("/kubepods.slice/kubepods-burstable-pod{}.slice", U.replace('-', "_"));
        let cases = [
            (format!("{pod}/cri-containerd-{A}.scope"), Some("containerd"), Some(U)),
            (format!("{pod}/crio-{A}.scope/container"), Some("cri-o"), Some(U)),
            (format!("/kubepods/besteffort/pod{U}/{A}"), None, Some(U)),
            (format!("/machine.slice/libpod-{A}.scope/container"), Some("podman"), None),
            (format!("/machine.slice/libpod-conmon-{A}.scope"), Some("podman"), None),
            (format!("/libpod_parent/libpod-{A}"), Some("podman"), None),
            (format!("/system.slice/nerdctl-{A}.scope"), Some("nerdctl"), None),
            (format!("/system.slice/docker-{A}.scope"), Some("docker"), None),
            (format!("/docker/{A}"), Some("docker"), None),
            (format!("/default/{A}"), None, None),
        ];
        for (path, runtime, pod) in cases {
            assert_eq!(read(&path), Some((A.into(), runtime, pod.map(Into::into))), "{path}");
        }
        let nomad = read(&format!("/nomad.slice/share.slice/{U}.web.scope")).unwrap();
        assert_eq!(nomad, (U.into(), Some("nomad"), None));
    }

    #[test]
    fn a_container_takes_no_name_of_another_by_a_cgroup_of_its_own() {
        let own = format!("/machine.slice/libpod-{A}.scope/docker-{}.scope", A.replace('4', "5"));
        assert_eq!(read(&own), Some((A.into(), Some("podman"), None)));
    }

    #[test]
    fn other_cgroups_name_none() {
        for path in ["/", "/user.slice/session-1.scope", "/system.slice/docker.service", "/docker-x.scope"] {
            assert_eq!(read(path), None, "{path}");
        }
        assert_eq!(contained("garbage"), None);
    }
}
