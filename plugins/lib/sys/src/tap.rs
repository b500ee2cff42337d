//! TAP devices: Ethernet links with a descriptor at the other end, from which a virtual machine
//! monitor reads what the kernel sends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use crate::{Error, Result, calls};

/// The device that creates them.
pub const DEVICE: &str = "/dev/net/tun";

/// The file by which a process chooses the SELinux context of the next program that it executes.
const EXEC_CONTEXT: &str = "/proc/thread-self/attr/exec";
/// The file with the context of a process.
const CONTEXT: &str = "/proc/thread-self/attr/current";

/// A queue of a TAP device. A device without [`Queue::make_persistent`] goes with its last queue.
#[derive(Debug)]
pub struct Queue {
    file: File,
}

/// The device to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index; 0 lets the kernel choose.
    pub index: u32,
    /// Whether it takes several queues.
    pub multi_queue: bool,
}

impl Device<'_> {
    /// The flags of linux/if_tun.h.
    fn flags(self, more: i32) -> u16 {
        let queues = if self.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | queues | more;
        u16::try_from(flags).unwrap_or(0)
    }
}

impl Queue {
    /// Opens a queue of no device, for devices in the calling thread's network namespace.
    ///
    /// # Errors
    /// The device node is missing (`is_not_found`), or may not be opened.
    pub fn open() -> Result<Self> {
        // If something else is at the path, O_NONBLOCK keeps the open from blocking.
        let open = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE);
        open.map(|file| Self { file }).map_err(|error| Error::new("open", DEVICE, error))
    }

    /// The queue at standard input.
    ///
    /// # Errors
    /// The descriptor cannot be duplicated.
    pub fn of_stdin() -> Result<Self> {
        let descriptor = io::stdin().as_fd().try_clone_to_owned();
        let queue = descriptor.map(|fd| Self { file: fd.into() });
        queue.map_err(|error| Error::new("use", "standard input", error))
    }

    /// Creates the device, down, with this as its first queue.
    ///
    /// # Errors
    /// EBUSY: a TUN or TAP device of the name, or any link of the index exists; EINVAL: a link of
    /// another kind has the name; EPERM without CAP_NET_ADMIN.
    pub fn create(&self, device: Device<'_>) -> Result<()> {
        let fd = self.file.as_fd();
        let indexed = match device.index {
            0 => Ok(()),
            index => calls::tun::set_index(fd, index),
        };
        indexed
            .and_then(|()| calls::tun::set_interface(fd, device.name, device.flags(libc::IFF_TUN_EXCL)))
            .map_err(|error| create_failed(device, error))
    }

    /// Attaches the queue to a device that exists, as the program of a virtual machine does; its
    /// index does not matter. Without such a device, a process with CAP_NET_ADMIN creates one.
    ///
    /// # Errors
    /// EPERM: the device is another user's or group's; EBUSY: it has a queue, and takes one.
    pub fn attach(&self, device: Device<'_>) -> Result<()> {
        calls::tun::set_interface(self.file.as_fd(), device.name, device.flags(0))
            .map_err(|error| Error::new("attach to tap", device.name, error))
    }

    /// As [`Queue::create`], by a process with that SELinux context, which becomes the device's:
    /// the kernel labels the device with the context of the process that creates it
    /// (selinux_tun_dev_alloc_security), and ignores the one that is set for new sockets. The
    /// process is this executable, called as `program` with `command`; it calls
    /// [`Queue::create`] for the same device, with the queue as its standard input.
    ///
    /// # Errors
    /// The kernel refused the context, or the process failed.
    pub fn create_in_context(
        &self,
        device: Device<'_>,
        context: &str,
        program: &str,
        command: &str,
    ) -> Result<()> {
        let failed = |error: io::Error| create_failed(device, error);
        let queue = self.file.try_clone().map_err(failed)?;
        let [index, queues] = [device.index, device.multi_queue.into()].map(|number| number.to_string());
        let mut child = Command::new("/proc/self/exe");
        child.arg0(program).args([command, device.name, &index, &queues]).env_clear();
        child.stdin(queue).stdout(Stdio::null()).stderr(Stdio::piped());
        let context = context.to_owned();
        // Without O_CREAT, for which a policy has another right.
        let set_context =
            move || OpenOptions::new().write(true).open(EXEC_CONTEXT)?.write_all(context.as_bytes());
        calls::prepare_in_child(&mut child, set_context);
        let output = child.output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        Err(failed(match output.status.signal() {
            Some(signal) => io::Error::other(format!("the process was killed by signal {signal}")),
            None if text.is_empty() => io::Error::other("the process failed"),
            None => io::Error::other(text),
        }))
    }

    /// Sets the user, and the group, who may attach queues without CAP_NET_ADMIN. If both are set,
    /// the kernel asks for both.
    ///
    /// # Errors
    /// The user namespace has no such id (EINVAL).
    pub fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let fd = self.file.as_fd();
        if let Some(uid) = uid {
            let done = calls::tun::set_owner(fd, uid);
            done.map_err(|error| Error::new("set the owner of the tap to", uid.to_string(), error))?;
        }
        if let Some(gid) = gid {
            let done = calls::tun::set_group(fd, gid);
            done.map_err(|error| Error::new("set the group of the tap to", gid.to_string(), error))?;
        }
        Ok(())
    }

    /// Makes the device outlive its queues.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn make_persistent(&self) -> Result<()> {
        calls::tun::set_persistent(self.file.as_fd())
            .map_err(|error| Error::new("make persistent", "the tap", error))
    }
}

/// To read and write frames, each after a virtio header of ten bytes (struct virtio_net_hdr).
impl From<Queue> for File {
    fn from(queue: Queue) -> Self {
        queue.file
    }
}

/// Whether the kernel runs SELinux: a context has at least three colons, unlike the profiles of
/// other security modules.
pub fn has_selinux() -> bool {
    fs::read_to_string(CONTEXT).is_ok_and(|context| context.split(':').count() > 2)
}

fn create_failed(device: Device<'_>, error: io::Error) -> Error {
    Error::new("create tap", format!("\"{}\"", device.name.escape_debug()), error)
}
