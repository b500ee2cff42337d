//! A hostile plugin writes nothing outside its room, though it runs as root.

use std::fs;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::room::Room;

pub const CASES: &[Case] = &[
    Case::new("harness/a_hostile_plugin_reaches_nothing_outside", &["HA-7"], hostile),
    Case::new("harness/a_hostile_plugin_makes_no_device", &["HA-7"], devices),
];

/// Attempts anything that would change the machine, in ways that are harmless if they succeed:
/// files are opened for writing but not written to, or written with their own content.
const HOSTILE: &str = r#"
out=/run/room/reached; : > $out
opened() { (: >> "$1") 2>/dev/null && echo "opened $1" >> $out; }
did() { "$@" >/dev/null 2>&1 && echo "did: $*" >> $out; }
files() {
  for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/swappiness /proc/sys/fs/file-max \
    /proc/sysrq-trigger /sys/power/state /sys/kernel/uevent_helper /sys/kernel/mm/transparent_hugepage/enabled; do
    [ -e $file ] && opened $file
  done
}
files
for place in / /proc/sys /proc/sys/kernel /proc/sys/vm /proc/sys/fs /proc/sysrq-trigger /sys; do
  did mount -o remount,bind,rw $place
  did mount -o remount,rw $place
done
files
(: > /left-by-a-hostile-plugin) 2>/dev/null && { echo "wrote to /" >> $out; rm -f /left-by-a-hostile-plugin; }
for place in /run /var/lib/cni /proc/sys/net /proc/sys /proc/sysrq-trigger /sys /proc /; do
  did umount $place
done
files
mkdir -p /run/room/at
for kind in proc devtmpfs debugfs tracefs securityfs bpf; do
  did mount -t $kind $kind /run/room/at
done
did chroot /proc/1/root /bin/sh -c 'mount -o remount,bind,rw /'
did nsenter -t 1 -m mount -o remount,bind,rw /
did unshare -U -r -m sh -c 'mount -o remount,bind,rw / || umount /proc/sys/kernel || umount -l /proc'
files
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7/24","gateway":"10.1.2.1"}]}'"#;

const DEVICES: &str = r#"
out=/run/room/reached; : > $out
cd /run/room
mknod disk b 8 0 2>/dev/null && (: < disk) 2>/dev/null && echo "made a disk" >> $out
mknod memory c 1 1 2>/dev/null && (: < memory) 2>/dev/null && echo "made a memory device" >> $out
find /dev/ -type b 2>/dev/null | sed 's/^/found /' >> $out
for name in mem kmem port kmsg mapper/control loop-control kvm; do
  [ -e /dev/$name ] && echo "found /dev/$name" >> $out
done
[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7/24","gateway":"10.1.2.1"}]}'"#;

/// Runs a plugin of this text as a delegate and returns what it could access.
fn run(room: &Room, text: &str) -> Result<()> {
    let fake = Fake::wrapper(room, "hostile", text)?;
    let config = with(&bridge(USUAL), serde_json::json!({"ipam": {"type": fake.name()}}));
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config).run()?.result()?;
    let reached = fs::read_to_string(room.scratch("reached"))?;
    ensure!(reached.is_empty(), "a hostile plugin has\n{reached}");
    Ok(())
}

fn hostile(room: &Room) -> Result<()> {
    run(room, HOSTILE)
}

fn devices(room: &Room) -> Result<()> {
    run(room, DEVICES)
}
