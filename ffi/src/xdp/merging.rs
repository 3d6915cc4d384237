//! Has the kernel put together what comes through tunnels.
//!
//! Its receive offload (GRO) looks into UDP packets only where a tunnel of its own has a socket at their port
//! (`udp_gro_receive` in net/ipv4/udp_offload.c). So there are VXLAN devices at that port, one for each family: in a network namespace
//! that nobody else has, with the sockets in the NIC's. They have a network identifier that nothing is sent to, and what is ours
//! never gets to them. They go with the namespace, and that goes with this process.

use crate::netlink::Netlink;
use crate::netns;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use std::fs::File;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A VXLAN network identifier has 24 bits.
const IDENTIFIERS: u32 = 1 << 24;

/// Devices that this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// The devices.
#[derive(Debug)]
pub(super) struct Merging {
    /// The namespace that they are in.
    _namespace: File,
}

impl Merging {
    /// For tunnels at this UDP port of the calling thread's network namespace. The kernel may have no IPv6; then this is for IPv4.
    ///
    /// # Errors
    /// Those of `unshare(2)` and of netlink: `EPERM`, `EOPNOTSUPP` (the kernel has no VXLAN), `EADDRINUSE`.
    pub(super) fn at(port: u16) -> io::Result<Merging> {
        let namespace = netns::fresh()?;
        let netlink = Netlink::here()?;
        make(&netlink, &namespace, "merge4", vec![InfoVxlan::Port(port)])?;
        // Its remote end says the family, and is nobody: what the kernel says of itself on that device ends where it began.
        let remote = InfoVxlan::Group6(Ipv6Addr::LOCALHOST);
        if let Err(error) = make(&netlink, &namespace, "merge6", vec![InfoVxlan::Port(port), remote]) {
            tracing::debug!(port, %error, "tunnels over IPv6 are not put together");
        }
        Ok(Merging { _namespace: namespace })
    }
}

/// Makes a device in `namespace` whose socket is in the calling thread's.
fn make(netlink: &Netlink, namespace: &File, name: &str, more: Vec<InfoVxlan>) -> io::Result<()> {
    // Another one for each: there may be several uplinks, and the devices of a process that has just ended.
    let number = process::id().wrapping_mul(64).wrapping_add(MADE.fetch_add(1, Ordering::Relaxed));
    let identifier = IDENTIFIERS - 1 - number % (IDENTIFIERS / 2);
    let mut data = vec![InfoVxlan::Id(identifier), InfoVxlan::Learning(false)];
    data.extend(more);
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::NetNsFd(namespace.as_raw_fd()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))]),
    ];
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    netlink.ask(RouteNetlinkMessage::NewLink(message), flags).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::thread;
    use std::time::{Duration, Instant};

    fn bind() -> io::Result<UdpSocket> {
        UdpSocket::bind("0.0.0.0:4789")
    }

    #[test]
    fn the_port_is_the_kernels_for_as_long_as_an_uplink_wants_it() {
        let elsewhere = thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let (one, other) = (Merging::at(4_789).unwrap(), Merging::at(4_789).unwrap());
            drop(one);
            assert_eq!(bind().unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
            drop(other);
            let end = Instant::now() + Duration::from_secs(10);
            while bind().is_err() {
                assert!(Instant::now() < end, "the port is not given back");
                thread::sleep(Duration::from_millis(5));
            }
            // Somebody else has it.
            let _taken = bind().unwrap();
            assert_eq!(Merging::at(4_789).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
        });
        elsewhere.join().unwrap();
    }
}
