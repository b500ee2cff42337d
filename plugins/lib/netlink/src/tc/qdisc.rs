//! Queueing disciplines of links.

use libc::{RTM_DELQDISC, RTM_GETQDISC, RTM_NEWQDISC};
use sys::{Error, Result};

use super::{Description, Discipline, Handle, NLM_F_ECHO, TCA_KIND, TCA_OPTIONS, request};
use crate::Netlink;
use crate::attr::Malformed;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Refusal};

/// The index of the loopback link, in every namespace.
const LOOPBACK: u32 = 1;

/// A queueing discipline of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// Index of the link.
    pub index: u32,
    /// Its number; [`Handle::NONE`] is the kernel's default.
    pub handle: Handle,
    /// The class that it serves, or the root.
    pub parent: Handle,
    /// Its settings.
    pub discipline: Discipline,
}

pub(super) fn read(payload: &[u8]) -> Result<Qdisc, Malformed> {
    let found = Description::read(payload)?;
    let discipline = Discipline::read(&found)?;
    Ok(Qdisc { index: found.index, handle: found.handle, parent: found.parent, discipline })
}

/// The kernel's answers when there is no such discipline: none at the place, no class, no link; a
/// default one that it does not describe; or no traffic control at all.
fn is_absent(refusal: &Refusal) -> bool {
    [libc::ENOENT, libc::ENODEV, libc::EINVAL, libc::EOPNOTSUPP].iter().any(|errno| refusal.is(*errno))
}

impl Netlink {
    /// Whether the link has a queueing discipline other than the kernel's default, which has no
    /// handle.
    ///
    /// # Errors
    /// The kernel refused. Without traffic control in the kernel there is none.
    pub fn has_qdisc(&self, index: u32) -> Result<bool> {
        let all = request(RTM_GETQDISC, 0, 0, Handle::NONE, Handle::NONE, 0);
        let listed = self.socket.dump(all, |payload, found| {
            let qdisc = Description::read(payload)?;
            if qdisc.index == index && qdisc.handle.is_configured() {
                found.push(());
            }
            Ok(())
        });
        match listed {
            Err(refusal) if refusal.is(libc::EOPNOTSUPP) => Ok(false),
            listed => listed
                .map(|found| !found.is_empty())
                .map_err(|refusal| refusal.on("list", "queueing disciplines")),
        }
    }

    /// The discipline of a link at `parent`: the root, the place for arriving packets, or a class;
    /// `None` if there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn qdisc(&self, index: u32, parent: Handle) -> Result<Option<Qdisc>> {
        let get = request(RTM_GETQDISC, NLM_F_ECHO, index, parent, Handle::NONE, 0);
        match self.socket.get_if_any(get, |payload| Ok(read(payload)?)) {
            Err(refusal) if is_absent(&refusal) => Ok(None),
            found => found.map_err(|refusal| refusal.on("look up", self.qdisc_label(index, parent))),
        }
    }

    /// Creates a discipline at `parent`. One that was configured there before must be deleted
    /// first.
    ///
    /// # Errors
    /// `is_exists` if there is one; `is_not_found` if the kernel does not have this kind; any other
    /// refusal.
    pub fn create_qdisc(
        &self,
        index: u32,
        parent: Handle,
        handle: Handle,
        discipline: &Discipline,
    ) -> Result<()> {
        let mut add = request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, index, parent, handle, 0);
        add.attrs.string(TCA_KIND, discipline.kind());
        discipline.write(TCA_OPTIONS, &mut add.attrs);
        self.change("create", add, || {
            format!("{} ({})", self.qdisc_label(index, parent), discipline.kind().escape_debug())
        })
    }

    /// Deletes the discipline at `parent`, with everything below it; a missing one counts as
    /// deleted.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_qdisc(&self, index: u32, parent: Handle) -> Result<()> {
        let delete = request(RTM_DELQDISC, 0, index, parent, Handle::NONE, 0);
        match self.change("delete", delete, || self.qdisc_label(index, parent)) {
            Err(error) if error.is_not_found() => Ok(()),
            done => done,
        }
    }

    /// Whether the kernel has this kind of discipline. Like creating one, this makes the kernel
    /// load its module.
    ///
    /// The kernel looks the kind up first, and creates nothing, because the options are invalid.
    ///
    /// # Errors
    /// The kernel did not answer the question.
    pub fn has_discipline(&self, kind: &str) -> Result<bool> {
        // All three flags: a new one in place of any that there is.
        let flags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_EXCL;
        let mut probe = request(RTM_NEWQDISC, flags, LOOPBACK, Handle::ROOT, Handle::NONE, 0).named(kind);
        probe.attrs.string(TCA_KIND, kind);
        Discipline::write_invalid(kind, TCA_OPTIONS, &mut probe.attrs);
        match self.change("probe for queueing discipline", probe, || kind.to_owned()) {
            Err(error) if error.is_not_supported() || error.is_not_found() => Ok(false),
            Err(Error::Kernel { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(true),
            done => done.map(|()| true),
        }
    }

    fn qdisc_label(&self, index: u32, parent: Handle) -> String {
        let place = match parent {
            Handle::ROOT => "root".to_owned(),
            Handle::INGRESS => "ingress".to_owned(),
            class => format!("class {class}"),
        };
        format!("queueing discipline of {} at {place}", self.link_label(index))
    }
}
