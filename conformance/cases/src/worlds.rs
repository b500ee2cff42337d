//! A sample of each world in every run: ADD, packets, CHECK and DEL. `conformance run --world` runs
//! all cases in a world.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{bridge, with};
use harness::need::Need;
use harness::room::Room;
use harness::world::World;
use harness::{ip, socket};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("worlds/busy_attachments_work_and_leave_nothing", &["C-040", "C-042", "HO-36"], |room| {
        life(room, World::Busy, &bridge("1.1.0"))
    }),
    Case::new("worlds/hostile_attachments_work_and_leave_nothing", &["C-040", "C-042", "HO-36"], |room| {
        life(room, World::Hostile, &with(&bridge("1.1.0"), json!({"ipMasq": true})))
    })
    .needs(&[Need::OtherUsers]),
    Case::new("worlds/odd_objects_of_the_administrator_are_kept", &["C-040", "C-042", "HO-36"], |room| {
        let ipam = json!({"type": "host-local", "subnet": "10.1.2.0/24"});
        let keys = json!({"ipMasq": true, "macspoofchk": true, "ipam": ipam});
        life(room, World::Odd, &with(&bridge("1.1.0"), keys))
    }),
    Case::new("worlds/odd_learned_routes_are_kept", &["C-040", "BR-V2"], |room| {
        life(room, World::Odd, &bridge("1.1.0"))
    }),
];

/// How often: the second time runs in the state that the first has left.
const TIMES: usize = 3;

fn life(room: &Room, world: World, config: &Value) -> Result<()> {
    let world = world.enter(room)?;
    for nth in 0..TIMES {
        let id = format!("c{nth}");
        let container = room.container(&id)?;
        let result = room.attach("bridge", "ADD", &container).config(config).run()?.result()?;
        // Both directions, since the reply must be routed too.
        room.inside(&id, || socket::reach("10.1.2.1".parse()?, socket::patience())).context("the gateway")?;
        let checked = with(config, json!({"prevResult": result}));
        room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()?;
        room.attach("bridge", "DEL", &container).config(&checked).run()?.silent()?;
        ensure!(ip::link(Some(&id), "eth0")?.is_none(), "eth0 of {id} has stayed");
        room.remove(&container)?;
    }
    world.ensure_untouched()
}
