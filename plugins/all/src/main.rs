//! Every plugin in one executable: it is the plugin by the name of which it is called.

use cni::Member;

#[global_allocator]
static ALLOCATOR: sys::memory::OneShot = sys::memory::OneShot;

fn main() -> std::process::ExitCode {
    // For the whole of the process's life.
    let cluster = Box::leak(Box::default());
    let host_local = Box::leak(Box::default());
    let members: Vec<Member> = vec![
        Member::new(&bandwidth::Bandwidth),
        Member::new(&bridge::Bridge),
        Member::new::<cluster_ipam::Cluster>(cluster),
        Member::new(&dhcp::Dhcp),
        Member::new(&dns::Dns),
        Member::new(&dummy::Dummy),
        Member::new(&firewall::Firewall),
        Member::new(&host_device::HostDevice),
        Member::new::<host_local::HostLocal>(host_local),
        Member::new(&ipvlan::Ipvlan),
        Member::new(&loopback::Loopback),
        Member::new(&macvlan::Macvlan),
        Member::new(&overlay::Overlay),
        Member::new(&portmap::PortMap),
        Member::new(&ptp::Ptp),
        Member::new(&sbr::Sbr),
        Member::new(&static_ipam::Static),
        Member::new(&tap::Tap),
        Member::new(&tuning::Tuning),
        Member::new(&vlan::Vlan),
        Member::new(&vrf::Vrf),
    ];
    cni::multicall(members.leak())
}
