//! What a trace says is what a packet meets.

use super::fixture::*;
use crate::conntrack::AffinityTable;
use crate::pipeline::{Probe, Trace, TraceEnd, TraceStep, trace};
use crate::port::{DropReason, PortId};
use crate::tables::{AddressSet, FrontendKind, Origin, Pool, WhenEmpty};
use crate::wire::IpProtocol;
use std::net::IpAddr;
use std::sync::Arc;

fn ask(
    node: &Node,
    arrival: PortId,
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    ports: (u16, u16),
) -> Trace {
    let probe = Probe {
        arrival,
        source: source.into(),
        destination: destination.into(),
        source_port: ports.0,
        destination_port: ports.1,
        protocol: IpProtocol(protocol),
        length: 60,
        ttl: 64,
    };
    let affinity: &AffinityTable = &node.pipeline.affinity;
    trace(&node.tables, node.pipeline.tracker().table(), affinity, &probe, node.now)
}

#[test]
fn it_names_the_frontend_the_endpoint_and_the_way_and_the_packet_takes_them() {
    for net in families() {
        let mut node = Node::new();
        let traced = ask(&node, A, net.a, net.vip, TCP, (1000, 80));
        let [
            TraceStep::NewFlow,
            TraceStep::SourceOwned,
            TraceStep::Frontend { kind, origin, usable, .. },
            rest @ ..,
        ] = traced.steps.as_slice()
        else {
            panic!("{:?}", traced.steps)
        };
        assert_eq!((*kind, *origin, *usable), (FrontendKind::ClusterIp, Origin::Pod, 1));
        assert!(matches!(rest, [TraceStep::Backend { .. }, TraceStep::Route { .. }]), "{rest:?}");
        let TraceEnd::Sent { port, rewritten } = traced.end else { panic!("{:?}", traced.end) };
        assert_eq!(node.flows(), 0, "nothing is made");
        let (real, frame) = node.run(A, Packet::new(A, net.a, net.vip, TCP, (1000, 80)).frame()).unwrap();
        assert_eq!((real, see(&frame).destination), (port, rewritten.destination.to_ip()));
        let again = ask(&node, A, net.a, net.vip, TCP, (1000, 80));
        assert!(matches!(again.steps[0], TraceStep::KnownFlow { current: true, .. }), "{again:?}");
    }
}

#[test]
fn it_tells_every_refusal_with_its_reason() {
    let net = families()[0];
    let mut node = Node::new();
    node.add_uplink();
    node.add_frontend(net.node, 443, FrontendKind::LoadBalancer, |frontend| {
        frontend.sources = Some(Arc::new(AddressSet::new(["192.0.2.0/24".parse().unwrap()])));
    });
    node.add_frontend(net.node, 444, FrontendKind::NodePort, |frontend| {
        frontend.outside = Pool { backends: Default::default(), when_empty: WhenEmpty::Drop };
    });
    node.add_frontend(net.node, 445, FrontendKind::NodePort, |frontend| frontend.outside = Pool::default());
    let end = |arrival, source, destination, protocol, port| {
        ask(&node, arrival, source, destination, protocol, (1000, port)).end
    };
    let world: IpAddr = [203, 0, 113, 9].into();
    assert_eq!(end(UPLINK, net.client, net.node, TCP, 443), TraceEnd::Dropped(DropReason::SourceRange));
    assert_eq!(end(UPLINK, net.client, net.node, TCP, 444), TraceEnd::Dropped(DropReason::NoBackend));
    assert_eq!(end(UPLINK, net.client, net.node, TCP, 445), TraceEnd::Reset(DropReason::NoBackend));
    assert!(matches!(end(UPLINK, net.client, net.node, UDP, 445), TraceEnd::Icmp(_, DropReason::NoBackend)));
    assert_eq!(end(A, net.a, net.vip, TCP, 81), TraceEnd::Reset(DropReason::NoService));
    assert_eq!(end(A, net.b, net.vip, TCP, 80), TraceEnd::Dropped(DropReason::SpoofedAddress));
    assert_eq!(end(UPLINK, net.client, net.node, TCP, 22), TraceEnd::Local);
    assert_eq!(end(PortId(77), net.a, net.vip, TCP, 80), TraceEnd::Dropped(DropReason::PortGone));
    assert!(matches!(end(A, net.a, world, TCP, 80), TraceEnd::Sent { port: UPLINK, .. }));
}
