//! A container's dummy link: it is on no other link, and drops every packet.

use netlink::{Dummy, LinkChange, Mac};
use sys::{Error, Result};

use super::child::{common_drifts, driver_drift};
use super::{Feature, Kernel, Part, Place, Undo};
use crate::Drift;

/// The driver's name, as [`netlink::Link::kind`] has it.
const DRIVER: &str = "dummy";

/// A dummy link in the container's namespace, which goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DummyLink {
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` is any.
    pub mac: Option<Mac>,
    /// MTU in bytes; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// Its owner's label: [`crate::Owner::label`], kept as its alias.
    pub label: String,
    /// [`crate::Owner::link_index`]: the container cannot change it.
    pub index: u32,
}

impl Part for DummyLink {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let sandbox = kernel.netlink(Place::Sandbox)?;
        let Self { mac, mtu, index, .. } = *self;
        let link = Dummy { name: &self.name, mac, mtu, index, group: 0 };
        let mut made = sandbox.create_dummy(&link);
        // Another link has the index.
        if made.as_ref().is_err_and(|error| error.errno() == Some(libc::EBUSY)) {
            made = sandbox.create_dummy(&Dummy { index: 0, ..link });
        }
        made.map_err(|error| self.refused(error))?;
        undo.push(Undo::SandboxLink(self.name.clone()));
        let made = kernel.link(Place::Sandbox, &self.name)?;
        let change = LinkChange { alias: Some(&self.label), ..LinkChange::default() };
        kernel.netlink(Place::Sandbox)?.set_link(made.index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.netlink(Place::Sandbox)?.link_by_name(&self.name)? else {
            return Ok(vec![Drift::new(format!("interface {}", self.name), "present", "missing")]);
        };
        Ok(match driver_drift(&link, DRIVER) {
            Some(drift) => vec![drift],
            None => common_drifts(&link, self.mac, self.mtu),
        })
    }
}

impl DummyLink {
    /// Explains the errno of a refused creation.
    fn refused(&self, error: Error) -> Error {
        let why = match error.errno() {
            Some(libc::EEXIST) => format!("the container has an interface {:?} already", self.name),
            Some(libc::EOPNOTSUPP) => Feature::Links(DRIVER).missing(),
            _ => return error.within(format!("failed to create {DRIVER}")),
        };
        error.within(format!("failed to create {DRIVER}: {why}"))
    }
}
