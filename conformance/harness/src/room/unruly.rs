//! What a container with NET_ADMIN does to its own links: renaming, alternative labels, and masses
//! of addresses.

use anyhow::{Context, Result};

use super::Room;
use crate::ip;

/// Two prefixes that no case gives to containers, for the addresses of a crowd.
const CROWD: [&str; 2] = ["10.200", "2001:db8:c0::"];

/// The numbers per byte of an IPv4 address; a number is written as two of them.
const PER_BYTE: usize = 250;

impl Room {
    /// Renames the container's link and labels it. The link is down meanwhile, as older kernels
    /// require, and the kernel removes its IPv6 addresses and its routes.
    pub fn disguise(&self, container: &str, link: &str, name: &str, label: &str) -> Result<()> {
        ip::run_in(container, &["link", "set", link, "down"])?;
        ip::run_in(container, &["link", "set", link, "name", name])?;
        ip::run_in(container, &["link", "set", name, "alias", label])?;
        ip::run_in(container, &["link", "set", name, "up"])
    }

    /// Adds this many addresses of each family to the container's link.
    pub fn crowd(&self, container: &str, link: &str, count: usize) -> Result<()> {
        let [v4, v6] = CROWD;
        let lines = (0..count).map(|nth| {
            let (high, low) = (nth / PER_BYTE, nth % PER_BYTE + 1);
            format!(
                "addr add {v4}.{high}.{low}/32 dev {link}\naddr add {v6}{high:x}:{low:x}/128 dev {link} nodad\n"
            )
        });
        let batch = self.write("crowd", lines.collect::<String>())?;
        ip::run_in(container, &["-batch", &batch.display().to_string()])
            .with_context(|| format!("crowd {link} of {container}"))
    }
}
