use super::*;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{
    Address, Adjacency, Frontend, FrontendKey, FrontendKind, Pool, PortInfo, PortRole, Route, ServiceId,
    SourcePorts, Vni, Vtep,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Remembers what it was told, and refuses what an XDP program would.
#[derive(Default)]
struct Recorder {
    claims: RefCell<BTreeSet<Claim>>,
}

impl Device for Recorder {
    fn link(&self) -> crate::driver::Link {
        crate::driver::Link::Up
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn steer(&self, changes: &ClaimChanges) -> Result<(), Refusal> {
        let mut claims = self.claims.borrow_mut();
        for claim in &changes.released {
            assert!(claims.remove(claim), "{claim} was not claimed");
        }
        for claim in &changes.claimed {
            assert!(claims.insert(*claim), "{claim} is claimed twice");
            let opposite = match *claim {
                Claim::Destination(prefix) => Some(Claim::Returned(prefix)),
                Claim::Returned(prefix) => Some(Claim::Destination(prefix)),
                _ => None,
            };
            assert!(opposite.is_none_or(|opposite| !claims.contains(&opposite)), "{claim} contradicts");
        }
        let ranges = claims.iter().filter(|claim| matches!(claim, Claim::SourcePorts { .. }));
        assert!(ranges.count() <= 2);
        Ok(())
    }
}

/// The same from scratch, one question after the other.
fn reference(input: &ClaimInput) -> BTreeSet<Claim> {
    let tables = &input.tables;
    let mut claims = BTreeSet::new();
    for (key, frontend) in tables.services.iter() {
        let address = key.address.to_ip();
        claims.insert(match frontend.kind {
            FrontendKind::ClusterIp => Claim::Destination(address.into()),
            _ => Claim::Frontend { address, protocol: key.protocol, port: key.port },
        });
    }
    for prefix in PREFIXES.map(net) {
        if let Some(Route::Via(id)) = tables.routes.get(prefix) {
            let port = tables.routes.adjacency(id).unwrap().port;
            if tables.ports.get(port).unwrap().role == PortRole::Pod {
                claims.insert(Claim::Destination(prefix));
            }
        }
    }
    let is_covered = |claim: &Claim| matches!(claim, Claim::Destination(prefix) if input.ranges.iter().any(|range| range.contains(prefix)));
    claims.retain(|claim| !is_covered(claim));
    claims.extend(input.ranges.iter().map(|range| Claim::Destination(*range)));
    for address in &input.addresses {
        claims.insert(Claim::Host(*address));
        claims.insert(Claim::Returned((*address).into()));
        claims.remove(&Claim::Destination((*address).into()));
    }
    claims.extend(input.remote_ranges.iter().map(|range| Claim::Source(*range)));
    let SourcePorts { first, last } = tables.masquerade.ports;
    if let Some(v4) = tables.masquerade.ipv4 {
        claims.insert(Claim::SourcePorts { address: v4.into(), first, last });
    }
    if let Some(vtep) = tables.tunnels.vtep() {
        let port = vtep.udp_port;
        claims.extend(vtep.addresses.iter().map(|to| Claim::Tunnel { address: to.to_ip(), port }));
    }
    claims
}

const PREFIXES: [&str; 4] = ["10.0.0.1/32", "10.0.0.2/32", "10.7.0.0/16", "fd00::/64"];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// One change of what the claims come from.
#[derive(Clone, Debug)]
enum Step {
    Frontend {
        last: u8,
        port: u16,
        kind: FrontendKind,
    },
    NoFrontend {
        last: u8,
        port: u16,
    },
    Route {
        prefix: usize,
        port: u16,
    },
    NoRoute {
        prefix: usize,
    },
    /// All routes go, and numbers of neighbours mean others.
    Renumber {
        port: u16,
    },
    Role {
        port: u16,
        role: PortRole,
    },
    Masquerade {
        last: Option<u8>,
        first: u16,
    },
    Vtep {
        last: Option<u8>,
        port: u16,
    },
    Ranges(Vec<u8>),
    Addresses(Vec<u8>),
    RemoteRanges(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = vec![FrontendKind::ClusterIp, FrontendKind::NodePort, FrontendKind::ExternalIp];
    let (last, port) = (0..3_u8, 80..82_u16);
    let few = || prop::collection::vec(0..3_u8, 0..3);
    let role = prop::sample::select(vec![PortRole::Pod, PortRole::Host, PortRole::Uplink]);
    prop_oneof![
        (last.clone(), port.clone(), prop::sample::select(kinds))
            .prop_map(|(last, port, kind)| Step::Frontend { last, port, kind }),
        (last, port).prop_map(|(last, port)| Step::NoFrontend { last, port }),
        (0..4_usize, 1..4_u16).prop_map(|(prefix, port)| Step::Route { prefix, port }),
        (0..4_usize).prop_map(|prefix| Step::NoRoute { prefix }),
        (1..4_u16).prop_map(|port| Step::Renumber { port }),
        (1..4_u16, role).prop_map(|(port, role)| Step::Role { port, role }),
        (prop::option::of(0..3_u8), 1..3_u16)
            .prop_map(|(last, first)| Step::Masquerade { last, first: first * 10_000 }),
        (prop::option::of(0..3_u8), 1..3_u16).prop_map(|(last, port)| Step::Vtep { last, port }),
        few().prop_map(Step::Ranges),
        few().prop_map(Step::Addresses),
        few().prop_map(Step::RemoteRanges),
    ]
}

fn info(role: PortRole) -> PortInfo {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    PortInfo { mac, own_mac: mac, mtu: 1500, spoof_check: false, role, companion: None }
}

fn neighbour(port: u16) -> Adjacency {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    Adjacency { port: PortId(port), mtu: 1500, destination_mac: mac, source_mac: mac, tunnel: None }
}

fn key(last: u8, port: u16) -> FrontendKey {
    FrontendKey { address: ip(last).into(), port, protocol: 6 }
}

fn start() -> ClaimInput {
    let mut input = ClaimInput::nothing();
    for (port, role) in [(1, PortRole::Pod), (2, PortRole::Host), (3, PortRole::Uplink)] {
        input.tables.ports.insert(PortId(port), info(role));
        input.tables.routes.add_adjacency(neighbour(port));
    }
    input
}

fn range(number: u8) -> IpNet {
    net(&format!("10.{number}.0.0/16"))
}

fn make(input: &mut ClaimInput, step: Step) {
    let tables = &mut input.tables;
    let way = |port: u16| Route::Via(millrace_fastpath::tables::AdjacencyId(u32::from(port - 1)));
    match step {
        Step::Frontend { last, port, kind } => {
            let frontend = Frontend { kind, ..Frontend::cluster_ip(ServiceId(1), Pool::default()) };
            tables.services.insert(key(last, port), frontend);
        }
        Step::NoFrontend { last, port } => drop(tables.services.remove(&key(last, port))),
        Step::Route { prefix, port } => {
            tables.routes.insert(net(PREFIXES[prefix]), way(port));
        }
        Step::NoRoute { prefix } => {
            tables.routes.remove(net(PREFIXES[prefix]));
        }
        Step::Renumber { port } => {
            let mut ports = [1, 2, 3];
            ports.rotate_left(usize::from(port));
            for id in 0..3 {
                tables.routes.remove_adjacency(millrace_fastpath::tables::AdjacencyId(id));
            }
            for port in ports {
                tables.routes.add_adjacency(neighbour(port));
            }
        }
        Step::Role { port, role } => tables.ports.insert(PortId(port), info(role)),
        Step::Masquerade { last, first } => {
            tables.masquerade.ipv4 = last.map(|last| Ipv4Addr::new(10, 0, 0, last));
            tables.masquerade.ports = SourcePorts { first, last: first + 9 };
        }
        Step::Vtep { last, port } => tables.tunnels.set_vtep(last.map(|last| Vtep {
            addresses: [Address::from(ip(last))].into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            vni: Vni::try_new(77).unwrap(),
            udp_port: port,
        })),
        Step::Ranges(few) => input.ranges = few.into_iter().map(range).collect(),
        Step::Addresses(few) => input.addresses = few.into_iter().map(ip).collect(),
        Step::RemoteRanges(few) => input.remote_ranges = few.into_iter().map(range).collect(),
    }
}

proptest! {
    #[test]
    fn after_any_changes_the_claims_are_those_of_the_tables(
        rounds in prop::collection::vec(prop::collection::vec(step(), 0..4), 1..40),
    ) {
        let (mut steering, recorder, mut input) = (Steering::default(), Recorder::default(), start());
        for steps in rounds {
            steps.into_iter().for_each(|step| make(&mut input, step));
            recorder.steer(&steering.update(input.clone())).unwrap();
            prop_assert_eq!(&*recorder.claims.borrow(), &reference(&input));
            let late = Recorder::default();
            steering.claim_all(&late).unwrap();
            prop_assert_eq!(&*late.claims.borrow(), &reference(&input));
        }
    }
}

#[test]
fn a_version_that_changes_nothing_steers_nothing() {
    let (mut steering, mut input) = (Steering::default(), start());
    make(&mut input, Step::Frontend { last: 1, port: 80, kind: FrontendKind::NodePort });
    make(&mut input, Step::Route { prefix: 0, port: 1 });
    assert_eq!(steering.update(input.clone()).claimed.len(), 2);
    assert!(steering.update(input.clone()).is_empty());
    input.tables.version += 1;
    assert!(steering.update(input).is_empty());
}

#[test]
fn an_address_of_the_node_in_a_claimed_range_is_given_back() {
    let (mut steering, mut input) = (Steering::default(), start());
    make(&mut input, Step::Ranges(vec![0]));
    steering.update(input.clone());
    make(&mut input, Step::Addresses(vec![1]));
    let changes = steering.update(input);
    let own = IpNet::from(ip(1));
    assert!(changes.released.is_empty());
    assert_eq!(
        BTreeSet::from_iter(changes.claimed),
        BTreeSet::from([Claim::Returned(own), Claim::Host(ip(1))])
    );
}

#[test]
fn an_address_of_the_node_is_no_longer_claimed_as_a_service() {
    let (mut steering, mut input) = (Steering::default(), start());
    make(&mut input, Step::Frontend { last: 1, port: 80, kind: FrontendKind::ClusterIp });
    steering.update(input.clone());
    make(&mut input, Step::Addresses(vec![1]));
    let changes = steering.update(input);
    assert_eq!(changes.released, [Claim::Destination(IpNet::from(ip(1)))]);
}

#[test]
fn what_the_ranges_cover_needs_no_claim_of_its_own() {
    let (mut steering, mut input) = (Steering::default(), start());
    make(&mut input, Step::Route { prefix: 0, port: 1 });
    make(&mut input, Step::Frontend { last: 2, port: 80, kind: FrontendKind::ClusterIp });
    assert_eq!(steering.update(input.clone()).claimed.len(), 2);
    make(&mut input, Step::Ranges(vec![0]));
    let changes = steering.update(input.clone());
    assert_eq!(changes.claimed, [Claim::Destination(range(0))]);
    assert_eq!(changes.released.len(), 2);
    make(&mut input, Step::Route { prefix: 1, port: 1 });
    assert!(steering.update(input).is_empty());
}
