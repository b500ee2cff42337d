//! A container's TAP device.

use netlink::{Link, LinkChange, Mac, TunInfo};
use sys::tap::{Device, Queue};
use sys::{Error, Result, tap};

use super::{Kernel, Part, Place, Undo};
use crate::{Conflict, Drift};

/// The kernel's name of the kind of TUN and TAP devices.
pub(super) const KIND: &str = "tun";

/// A TAP device of the container, for a program that reads its frames: a virtual machine monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapDevice {
    /// Its name in the container.
    pub name: String,
    /// Its Ethernet address; `None`: not known to CHECK.
    pub mac: Option<Mac>,
    /// MTU in bytes; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// The user who may attach to it without CAP_NET_ADMIN.
    pub owner: Option<u32>,
    /// The group that may.
    pub group: Option<u32>,
    /// Whether it takes several queues.
    pub multi_queue: bool,
    /// The name of a bridge of the container that it is a port of.
    pub bridge: Option<String>,
    /// Its SELinux context, and how to start the process that has it.
    pub context: Option<TapContext>,
    /// Its owner's label: [`crate::Owner::label`], kept as its alias.
    pub label: String,
    /// [`crate::Owner::link_index`]: the container cannot change it.
    pub index: u32,
}

/// The SELinux context of a TAP device: that of the process that creates it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapContext {
    /// The context.
    pub context: String,
    /// The name by which this executable is called for it, and its command.
    pub call: [&'static str; 2],
}

impl Part for TapDevice {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let failed = |error: Error| error.within("failed to create tap".into());
        let bridge = self.bridge.as_deref();
        let master = bridge.map(|name| self.bridge_of(kernel, name)).transpose()?;
        // Until it is persistent, the device goes with this process, so a killed ADD leaves either
        // nothing or a device with its owner's label.
        let queue = self.create(kernel).map_err(failed)?;
        queue.set_owner(self.owner, self.group).map_err(failed)?;
        let change = LinkChange {
            mac: self.mac,
            mtu: self.mtu,
            alias: Some(&self.label),
            master: master.map(|bridge| bridge.index),
            ..LinkChange::default()
        };
        let index = kernel.index(Place::Sandbox, &self.name).map_err(failed)?;
        kernel.netlink(Place::Sandbox)?.set_link(index, &change).map_err(failed)?;
        undo.push(Undo::SandboxLink(self.name.clone()));
        queue.make_persistent().map_err(failed)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.netlink(Place::Sandbox)?.link_by_name(&self.name)? else {
            return Ok(vec![Drift::new(format!("interface {}", self.name), "present", "missing")]);
        };
        let Some(info) = link.tun.filter(|info| info.tap) else {
            let kind = link.kind.as_deref().unwrap_or("no virtual link");
            return Ok(vec![Drift::new(format!("kind of {}", self.name), "tap", kind)]);
        };
        let mut drifts = self.device_drifts(&link, info);
        if let Some(bridge) = &self.bridge {
            let actual = match link.master {
                Some(index) => kernel.netlink(Place::Sandbox)?.link_by_index(index)?.map(|link| link.name),
                None => None,
            };
            let actual = actual.unwrap_or_else(|| "none".into());
            drifts.extend(Drift::unless_equal(self.of("bridge"), bridge.clone(), actual));
        }
        Ok(drifts)
    }
}

impl TapDevice {
    /// Creates the device, which its only queue keeps.
    fn create(&self, kernel: &Kernel) -> Result<Queue> {
        let is_taken = kernel.netlink(Place::Sandbox)?.link_by_index(self.index)?.is_some();
        let index = if is_taken { 0 } else { self.index };
        let device = Device { name: &self.name, index, multi_queue: self.multi_queue };
        // A queue belongs to the namespace in which it was opened.
        let queue =
            kernel.within(Place::Sandbox, Queue::open)?.map_err(|error| match error.is_not_found() {
                true => error.within("this kernel has no TAP devices (is its module tun loaded?)".into()),
                false => error,
            })?;
        match &self.context {
            None => queue.create(device)?,
            Some(TapContext { context, call: [program, command] }) => {
                let created = queue.create_in_context(device, context, program, command);
                created.map_err(|error| error.within(format!("in SELinux context {context:?}")))?;
            }
        }
        Ok(queue)
    }

    fn bridge_of(&self, kernel: &Kernel, name: &str) -> Result<Link> {
        let bridge = kernel.link(Place::Sandbox, name).map_err(|error| {
            error.within(format!("failed to attach {} to bridge {name:?} in the container", self.name))
        })?;
        match bridge.kind.as_deref() {
            Some("bridge") => Ok(bridge),
            _ => Err(Conflict::NotABridge { name: name.to_owned() }.into()),
        }
    }

    fn of(&self, what: &str) -> String {
        format!("{what} of {}", self.name)
    }

    fn device_drifts(&self, link: &Link, info: TunInfo) -> Vec<Drift> {
        let mut drifts = Vec::new();
        let mut compare = |what: &str, expected: String, actual: String| {
            drifts.extend(Drift::unless_equal(self.of(what), expected, actual));
        };
        let id = |id: Option<u32>| id.map_or_else(|| "none".into(), |id| id.to_string());
        let kept = |persistent: bool| if persistent { "stays" } else { "goes with its last queue" };
        compare("lifetime", kept(true).into(), kept(info.persistent).into());
        compare("owner", id(self.owner), id(info.owner));
        compare("group", id(self.group), id(info.group));
        compare("multiple queues", self.multi_queue.to_string(), info.multi_queue.to_string());
        if let Some(mac) = self.mac {
            let actual = link.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
            compare("MAC address", mac.to_string(), actual);
        }
        if let Some(mtu) = self.mtu {
            compare("MTU", mtu.to_string(), link.mtu.to_string());
        }
        drifts
    }
}

/// Creates the device of a [`TapContext`], in the process that has the context: its arguments are
/// the device's, its standard input is the queue.
///
/// # Errors
/// The arguments are not those of [`Queue::create_in_context`], or the kernel refused.
pub fn create_tap_at_stdin(arguments: &[&str]) -> Result<()> {
    let invalid = || std::io::Error::from(std::io::ErrorKind::InvalidInput);
    let [name, index, queues] = arguments else {
        return Err(Error::new("create tap", "(name, index, queues)", invalid()));
    };
    let index = index.parse().map_err(|_| Error::new("create tap with index", *index, invalid()))?;
    Queue::of_stdin()?.create(Device { name, index, multi_queue: *queues == "true" })
}

/// STATUS: whether the kernel has TAP devices.
///
/// # Errors
/// The device node cannot be opened.
pub fn require_taps() -> Result<()> {
    Queue::open().map(drop)
}

/// Whether TAP devices can have an SELinux context.
pub fn has_tap_contexts() -> bool {
    tap::has_selinux()
}
