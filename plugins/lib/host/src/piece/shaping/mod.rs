//! The rate of a container's packets, at the host's end of its veth pair.
//!
//! A queueing discipline shapes what leaves by a link: for packets to the container, by the host's
//! end. Those from the container arrive there, so a filter leads them through an IFB link, which
//! they leave by.

mod host_end;
mod ifb;
mod redirect;
mod removal;
mod shaper;
mod subnets;

use netlink::Handle;

use crate::Owner;

pub use host_end::{HostEnd, host_end};
pub use ifb::{Ifb, choose_ifb};
pub use redirect::Redirect;
pub(super) use redirect::withdraw;
pub use removal::{Directions, delete_shaping, delete_shaping_but, delete_shaping_of};
pub(super) use shaper::take_back;
pub use shaper::{Fairness, Shaper};
pub use subnets::{OtherEnd, Packets};

/// The kind of IFB links.
const IFB: &str = "ifb";

/// The number of the reference's token buckets.
const OF_REFERENCE: Handle = Handle::discipline(1);

/// The number of an owner's disciplines. The kernel itself numbers from 8000 on, and people number
/// from 1 on.
pub fn shaper_handle(owner: &Owner) -> Handle {
    Handle::discipline(u16::try_from(owner.tag() & 0x3fff).unwrap_or(0) | 0x4000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discipline_has_a_number_of_its_owners() {
        for id in 0..1000 {
            let Handle(number) = shaper_handle(&Owner::new("net", format!("c{id}"), "eth0"));
            assert!((0x4000..0x8000).contains(&(number >> 16)) && number & 0xffff == 0, "{number:x}");
        }
        // In the kernels of running nodes: a change of the derivation would orphan their disciplines.
        assert_eq!(shaper_handle(&Owner::new("net", "c1", "eth0")).to_string(), "4026:");
    }
}
