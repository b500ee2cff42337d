//! What the removal of an attachment may take of things that bear a label.
//!
//! A network can be renamed while containers are attached to it, so a DEL also looks for its
//! container and interface under other networks' names. But two networks can be meant for the same
//! interface of the same container: the ADD of the second is refused, and the DEL that follows must
//! not take the first one's things. The two situations look alike, and one fact separates them:
//! whether the other attachment is alive. While it is, its things stay, unless the runtime
//! remembers its host link as this attachment's result. Once the container or its link is gone,
//! they go.

use std::cell::OnceCell;
use std::os::fd::AsFd;

use netlink::{Link, Netlink};
use sys::{Error, NetNs, NetNsError, Result};

use crate::Owner;

/// The removal of one attachment.
#[derive(Debug)]
pub struct Removal {
    owner: Owner,
    netns: String,
    remembered: Vec<String>,
    living: OnceCell<Living>,
}

/// The attachments of the same container and interface that are alive under other networks' names.
#[derive(Debug)]
struct Living {
    labels: Vec<String>,
    /// The container has the interface, and nothing shows which network made it.
    any: bool,
}

impl Removal {
    /// `netns` is the path of the container's namespace, or empty; `remembered` are the names of
    /// the host's links in the result that the runtime keeps of this attachment's ADD. The kernel
    /// is asked only when it matters.
    pub fn new(owner: Owner, netns: &str, remembered: Vec<String>) -> Self {
        Self { owner, netns: netns.to_owned(), remembered, living: OnceCell::new() }
    }

    /// The attachment.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// The names of the host's links in the result that the runtime keeps.
    pub fn remembered(&self) -> &[String] {
        &self.remembered
    }

    /// Whether this removal takes what bears the label ([`Owner::label`]): its own label, or that
    /// of the same container and interface under another network's name if that attachment is not
    /// alive.
    ///
    /// # Errors
    /// The kernel could not be asked. Then the thing must stay, and the DEL must be tried again.
    pub fn takes(&self, label: &str) -> Result<bool> {
        if label == self.owner.label() {
            return Ok(true);
        }
        if !self.owner.is_in(label) {
            return Ok(false);
        }
        let living = match self.living.get() {
            Some(living) => living,
            None => {
                let found = self.find_living()?;
                self.living.get_or_init(|| found)
            }
        };
        Ok(!living.any && living.labels.iter().all(|alive| alive != label))
    }

    /// Whether a link of the container is another network's, which has the same interface name: by
    /// its label, which a veth has on its other end.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_of_another_network(&self, sandbox: &Netlink, link: &Link) -> Result<bool> {
        let mut label = link.alias.clone();
        if let Some(index) = link.peer_index
            && is_in_this_namespace(sandbox, link)?
            && let Some(peer) = Netlink::open()?.link_by_index(index)?.filter(|peer| is_pair(peer, link))
        {
            label = peer.alias.filter(|_| !self.remembered.contains(&peer.name));
        }
        Ok(label.is_some_and(|label| self.owner.is_in(&label) && label != self.owner.label()))
    }

    /// An attachment to a bridge is alive while its host veth exists. Any other is alive while the
    /// container has the interface, unless that is known to be this attachment's own, or another
    /// container's.
    fn find_living(&self) -> Result<Living> {
        let host = Netlink::open()?;
        let links = host.links()?;
        let labels = links
            .iter()
            .filter(|link| link.kind.as_deref() == Some("veth") && !self.remembered.contains(&link.name))
            .filter_map(|link| link.alias.clone().filter(|alias| self.owner.is_in(alias)))
            .collect();
        let mut living = Living { labels, any: false };
        let Some(netns) =
            NetNs::open_if_there(&self.netns).map_err(|error| unreadable(&self.netns, error))?
        else {
            return Ok(living);
        };
        let sandbox = Netlink::open_in(&netns)?;
        let Some(link) = sandbox.link_by_name(&self.owner.ifname)? else { return Ok(living) };
        let peer = match links.iter().find(|peer| is_pair(peer, &link)) {
            Some(peer) if is_in_this_namespace(&sandbox, &link)? => Some(peer),
            _ => None,
        };
        if peer.is_some_and(|peer| self.remembered.contains(&peer.name)) {
            return Ok(living);
        }
        // A veth's label is on the host's end. That of a stacked link is in the container, which
        // can change its own.
        let label = match peer {
            Some(peer) => peer.alias.as_deref(),
            None => link.alias.as_deref(),
        };
        match label.filter(|label| label.starts_with("moor/")) {
            Some(label) if label == self.owner.label() || !self.owner.is_in(label) => {}
            Some(label) => living.labels.push(label.to_owned()),
            None => living.any = true,
        }
        Ok(living)
    }
}

fn unreadable(path: &str, error: NetNsError) -> Error {
    let source = match error {
        NetNsError::Io { source, .. } => source,
        other => std::io::Error::other(other.to_string()),
    };
    Error::new("open the network namespace", path, source)
}

/// Whether these may be the two ends of a veth pair, with `link` in the namespace that
/// `peer_netns_id` names.
pub(crate) fn is_pair(end: &Link, link: &Link) -> bool {
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    is_veth(end) && is_veth(link) && link.peer_index == Some(end.index) && end.peer_index == Some(link.index)
}

/// Whether the peer or parent of a link of `sandbox` is in the calling thread's namespace.
pub(crate) fn is_in_this_namespace(sandbox: &Netlink, link: &Link) -> Result<bool> {
    Ok(sandbox.netns_id(NetNs::current()?.as_fd())? == link.peer_netns_id)
}
