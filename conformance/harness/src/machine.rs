//! A room that looks like a whole machine to those who ask whether `/proc` shows every process: the
//! file of its first process's pid namespace is that of the initial one.

use anyhow::{Context, Result, ensure};

use crate::ip;

/// linux/proc_ns.h, PROC_PID_INIT_INO: the inode of the initial pid namespace.
const INITIAL: &str = "4026531836";

/// Below the room's `/proc` is the machine's. Another mount namespace uncovers it, takes a
/// descriptor of the initial pid namespace from there, and hands it to this one.
const SCRIPT: &str = r#"
dir=/run/whole-machine
mkdir $dir && mount -t tmpfs tmpfs $dir && mkfifo $dir.fifo
unshare -m sh -c 'umount -l /proc
    for file in /proc/[0-9]*/ns/pid; do
        if [ "$(stat -L -c %i $file 2>/dev/null)" = INITIAL ]; then exec 9<$file; break; fi
    done
    [ -e /proc/self/fd/9 ] && read line < /run/whole-machine.fifo' &
child=$!
while [ -e /proc/$child/exe ] && ! [ -e /proc/$child/fd/9 ]; do sleep 0.02; done
touch $dir/pid && mount --bind /proc/$child/fd/9 $dir/pid
bound=$?
[ $bound = 0 ] && echo > $dir.fifo
wait $child
rm $dir.fifo
[ $bound = 0 ] || exit 1
for name in cgroup ipc net uts user; do touch $dir/$name; mount --bind /proc/1/ns/$name $dir/$name; done
mount --rbind $dir /proc/1/ns
stat -L -c %i /proc/1/ns/pid
"#;

/// Makes the room look so, until it ends.
pub fn whole() -> Result<()> {
    let seen = ip::output("sh", &["-c", &SCRIPT.replace("INITIAL", INITIAL)]);
    let seen = seen.context("show the initial pid namespace")?;
    ensure!(seen.trim() == INITIAL, "/proc/1/ns/pid is {seen:?}");
    Ok(())
}
