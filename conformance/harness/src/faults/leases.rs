//! What a DHCP client needs: a server, and a daemon that the traced process need not start.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::trial::ID;
use crate::ip;
use crate::room::Room;
use crate::stage::dhcp::{Offer, Server, Software};
use crate::stage::lan::until;

/// Server and daemon.
pub struct Leases {
    server: Server,
    daemon: Child,
}

impl Leases {
    /// On the outside's wire; the container gets its end of another one.
    pub fn new(room: &Room) -> Result<Self> {
        room.outside(&[])?;
        ip::script(
            None,
            "link add br0 type bridge
             link set br0 up
             link set wan0 master br0
             link add port0 type veth peer name eth0 netns c1
             link set port0 master br0 up",
        )?;
        ip::run_in(ID, &["link", "set", "eth0", "up"])?;
        let server = room.dhcp_server(Software::Dnsmasq, &Offer::default())?;
        let mut command = Command::new(room.suite.join("dhcp"));
        command.arg("daemon").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = command.spawn().with_context(|| format!("start {command:?}"))?;
        until("the daemon listens", || Ok(UnixStream::connect("/run/cni/dhcp.sock").is_ok()))?;
        Ok(Self { server, daemon })
    }

    /// Records of the plugin, and leases of the server once it heard of their release.
    pub fn left(&self) -> Result<Vec<String>> {
        let records = fs::read_dir("/run/moor/dhcp")?.flatten().map(|file| file.path());
        let records = records.filter(|path| path.extension().is_some_and(|it| it == "lease"));
        let mut left: Vec<String> = records.map(|path| format!("+ file {}", path.display())).collect();
        if until("leases are free", || Ok(self.server.addresses()?.is_empty())).is_err() {
            left.extend(self.server.addresses()?.into_iter().map(|address| format!("+ lease of {address}")));
        }
        Ok(left)
    }
}

impl Drop for Leases {
    fn drop(&mut self) {
        let _ = self.daemon.kill().and_then(|()| self.daemon.wait());
    }
}
