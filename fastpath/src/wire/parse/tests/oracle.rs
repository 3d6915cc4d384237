//! Any well-formed frame: what the parser says must be what etherparse reads.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanSlice};
use proptest::prelude::*;

use super::super::*;

/// What layer 4 of a generated frame is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Tcp,
    Udp,
    Echo,
}

/// A frame as a generator chose it.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    v6: Option<[[u8; 16]; 2]>,
    v4: [[u8; 4]; 2],
    vlan: Option<u16>,
    kind: Kind,
    ports: [u16; 2],
    ttl: u8,
    data: Vec<u8>,
}

impl Choice {
    /// Its bytes, written by etherparse.
    pub(super) fn frame(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let [from, to] = self.ports;
        macro_rules! ip {
            ($step:expr) => {
                match self.v6 {
                    Some([source, destination]) => $step.ipv6(source, destination, self.ttl),
                    None => $step.ipv4(self.v4[0], self.v4[1], self.ttl),
                }
            };
        }
        let ip = match self.vlan {
            Some(id) => ip!(link.single_vlan(id.try_into().unwrap())),
            None => ip!(link),
        };
        match (self.kind, self.v6) {
            (Kind::Tcp, _) => ip.tcp(from, to, 1, 2).ack(3).psh().write(&mut frame, &self.data),
            (Kind::Udp, _) => ip.udp(from, to).write(&mut frame, &self.data),
            (Kind::Echo, None) => ip.icmpv4_echo_request(from, to).write(&mut frame, &self.data),
            (Kind::Echo, Some(_)) => ip.icmpv6_echo_reply(from, to).write(&mut frame, &self.data),
        }
        .unwrap();
        frame
    }
}

/// Well-formed frames of either family, with and without a tag.
pub(super) fn any_choice() -> impl Strategy<Value = Choice> {
    let kind = prop::sample::select(vec![Kind::Tcp, Kind::Udp, Kind::Echo]);
    let data = prop::collection::vec(any::<u8>(), 0..80);
    let vlan = prop::option::of(0..4095_u16);
    (any::<Option<[[u8; 16]; 2]>>(), any::<[[u8; 4]; 2]>(), vlan, kind, any::<[u16; 2]>(), any::<u8>(), data)
        .prop_map(|(v6, v4, vlan, kind, ports, ttl, data)| Choice { v6, v4, vlan, kind, ports, ttl, data })
}

proptest! {
    #[test]
    fn parser_agrees_with_etherparse_and_the_choice(choice in any_choice(), padding in 0..20_usize) {
        let mut frame = choice.frame();
        let packet_end = frame.len();
        frame.resize(packet_end + padding, 0);
        let Ok(Class::Ip(ours)) = parse(&frame, frame.len()) else { panic!("not forwarded") };
        let theirs = SlicedPacket::from_ethernet(&frame).unwrap();

        let vlan = theirs.vlan().map(|vlan| match vlan {
            VlanSlice::SingleVlan(tag) => tag.vlan_identifier().value(),
            VlanSlice::DoubleVlan(_) => panic!("one tag was written"),
        });
        prop_assert_eq!(ours.vlan.map(VlanId::get), vlan);
        let Some(net) = &theirs.net else { panic!("no IP header") };
        match (net, ours.addresses) {
            (NetSlice::Ipv4(ip), Addresses::V4 { source, destination }) => {
                prop_assert_eq!((source, destination), (ip.header().source_addr(), ip.header().destination_addr()));
                prop_assert_eq!((ours.ttl, ours.ip_total), (ip.header().ttl(), u32::from(ip.header().total_len())));
            }
            (NetSlice::Ipv6(ip), Addresses::V6 { source, destination }) => {
                prop_assert_eq!((source, destination), (ip.header().source_addr(), ip.header().destination_addr()));
                prop_assert_eq!(ours.ttl, ip.header().hop_limit());
                prop_assert_eq!(ours.ip_total, u32::from(ip.header().payload_length()) + 40);
            }
            (net, addresses) => panic!("{net:?} is not {addresses:?}"),
        }
        prop_assert_eq!(usize::from(ours.l3) + ours.ip_total as usize, packet_end);

        let l4 = &frame[usize::from(ours.l4)..packet_end];
        prop_assert_eq!(l4.len() as u32, ours.l4_len());
        let (slice, ports, kind) = match theirs.transport.unwrap() {
            TransportSlice::Tcp(tcp) => {
                prop_assert_eq!(ours.tcp_flags, crate::wire::tcp::Header::new_checked(l4).unwrap().flags().0);
                (tcp.slice().to_vec(), [tcp.source_port(), tcp.destination_port()], L4Kind::Tcp)
            }
            TransportSlice::Udp(udp) => {
                (udp.slice().to_vec(), [udp.source_port(), udp.destination_port()], L4Kind::Udp)
            }
            TransportSlice::Icmpv4(icmp) => {
                (icmp.slice().to_vec(), [choice.ports[0]; 2], L4Kind::IcmpEcho(IcmpEcho::Request))
            }
            TransportSlice::Icmpv6(icmp) => {
                (icmp.slice().to_vec(), [choice.ports[0]; 2], L4Kind::IcmpEcho(IcmpEcho::Reply))
            }
            TransportSlice::Igmp(_) => panic!("IGMP was not written"),
        };
        prop_assert_eq!(l4, slice);
        prop_assert_eq!(([ours.source_port, ours.destination_port], ours.kind), (ports, kind));
    }
}
