use super::*;
use crate::port::PortId;
use crate::sync::{Domain, Reader, Region};
use crate::tables::{Address, AdjacencyId, ServiceId};
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

const SECOND: u64 = 1 << 30;

pub(super) fn table(connections: u32) -> (Arc<FlowTable>, Reader) {
    let domain = Domain::new(4);
    let config = FlowTableConfig { connections, secret: [1, 2, 3, 4], timeouts: Timeouts::default() };
    let memory = Region::from_heap(Line::zeroed(FlowTable::lines(connections)));
    let mut reader = domain.register().unwrap();
    reader.online();
    (Arc::new(FlowTable::try_new(config, memory, &domain).unwrap()), reader)
}

pub(super) fn key_v4(client: u32, port: u16) -> FlowKey {
    FlowKey {
        source: Address::from_v4(0x0a00_0000 | client),
        destination: Ipv4Addr::new(10, 96, 0, 1).into(),
        source_port: port,
        destination_port: 80,
        protocol: 17,
        fragment: false,
    }
}

pub(super) fn key_v6(client: u32, port: u16) -> FlowKey {
    FlowKey {
        source: Address::from_v6((0xfd00 << 112) | u128::from(client)),
        destination: Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1).into(),
        ..key_v4(client, port)
    }
}

fn verdict(rewritten: FlowKey) -> Verdict {
    Verdict {
        rewritten,
        adjacency: AdjacencyId(7),
        arrival: PortId(3),
        service: ServiceId(9),
        epoch: 5,
        flags: EntryFlags::default(),
    }
}

pub(super) fn flow(key: FlowKey, backend: u16) -> NewFlow {
    let destination = if key.source.is_v4() {
        Ipv4Addr::new(10, 0, 9, 1).into()
    } else {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, 1).into()
    };
    let rewritten = FlowKey { destination, destination_port: backend, ..key };
    NewFlow { key, original: verdict(rewritten), reply: Some(verdict(key.reversed())) }
}

pub(super) fn find(table: &FlowTable, key: &FlowKey) -> Option<EntryRef> {
    let words = key.words();
    table.find(&words, words.hash(table.secret()))
}

#[test]
fn both_directions_of_a_flow_are_found_and_mirror_each_other() {
    let (table, _reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    for key in [key_v4(1, 1000), key_v6(1, 1000)] {
        let flow = flow(key, 8080);
        let number = tracker.insert(&flow, Ticks(1)).unwrap();
        let reply_key = flow.original.rewritten.reversed();
        assert_eq!(find(&table, &key), Some(number));
        assert_eq!(find(&table, &reply_key), Some(number.peer()));
        let (original, reply) = (table.entry(number), table.entry(number.peer()));
        assert_eq!((original.key(), original.rewritten()), (key, flow.original.rewritten));
        assert_eq!((reply.key(), reply.rewritten()), (reply_key, key.reversed()));
        assert_eq!(original.adjacency(), AdjacencyId(7));
        assert_eq!((original.arrival(), original.epoch(), original.service()), (PortId(3), 5, ServiceId(9)));
        assert!(original.flags().has(EntryFlags::NAT) && reply.flags().has(EntryFlags::NAT));
        assert_eq!(table.view().guess(key.words().hash(table.secret())), Some(number));
    }
}

#[test]
fn a_second_flow_with_the_same_key_is_refused_with_the_first_ones_entry() {
    let (table, _reader) = table(1024);
    let mut tracker = Tracker::new(table);
    let first = tracker.insert(&flow(key_v4(1, 1), 1), Ticks(1)).unwrap();
    assert_eq!(tracker.insert(&flow(key_v4(1, 1), 2), Ticks(1)), Err(NotTracked::Exists(first)));
}

#[test]
fn a_flow_whose_replies_could_not_be_told_apart_is_refused() {
    let (table, _reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    let key = key_v4(1, 1);
    tracker.insert(&flow(key, 8080), Ticks(1)).unwrap();
    let other = FlowKey { destination: Ipv4Addr::new(10, 96, 0, 2).into(), ..key };
    assert_eq!(tracker.insert(&flow(other, 8080), Ticks(1)), Err(NotTracked::ReplyTaken));
    assert_eq!(find(&table, &other), None, "nothing of it is left behind");
}

#[test]
fn a_rewrite_of_the_same_tuple_needs_no_translation() {
    let (table, _reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    let key = key_v4(1, 1);
    let flow = NewFlow { key, original: verdict(key), reply: Some(verdict(key.reversed())) };
    let number = tracker.insert(&flow, Ticks(1)).unwrap();
    let translated = |number| table.entry(number).flags().has(EntryFlags::NAT);
    assert!(!translated(number) && !translated(number.peer()));
}

#[test]
fn a_removed_flow_is_gone_and_its_memory_is_used_again_only_after_a_grace_period() {
    let (table, mut reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    let number = tracker.insert(&flow(key_v4(1, 1), 1), Ticks(1)).unwrap();
    let taken = table.len();
    tracker.remove(number.peer());
    assert_eq!(find(&table, &key_v4(1, 1)), None);
    tracker.maintain(SECOND);
    assert_eq!(table.len(), taken, "the reader may still look at it");
    reader.quiesce();
    tracker.maintain(SECOND);
    assert_eq!(table.len(), taken - 1);
    assert_eq!(tracker.counts(), [1, 1, 0]);
}

#[test]
fn an_unanswered_udp_flow_expires_before_an_answered_one() {
    let (table, mut reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    let lonely = tracker.insert(&flow(key_v4(1, 1), 1), Ticks(1)).unwrap();
    let answered = tracker.insert(&flow(key_v4(2, 1), 1), Ticks(1)).unwrap();
    table.entry(lonely).touch(Ticks(1));
    table.entry(answered.peer()).touch(Ticks(1));
    let mut run_to = |seconds: u64, tracker: &mut Tracker| {
        for step in 0..64 {
            tracker.maintain(seconds * 1_000_000_000 + step * SECOND);
            reader.quiesce();
        }
    };
    run_to(20, &mut tracker);
    run_to(40, &mut tracker);
    assert_eq!(find(&table, &key_v4(1, 1)), None);
    assert!(find(&table, &key_v4(2, 1)).is_some());
    run_to(300, &mut tracker);
    assert_eq!(find(&table, &key_v4(2, 1)), None);
    drop(tracker);
}

#[test]
fn when_room_is_short_embryonic_flows_go_first() {
    let (table, mut reader) = table(1024);
    let mut tracker = Tracker::new(table.clone());
    let mut kept = Vec::new();
    for port in 0..40 {
        let number = tracker.insert(&flow(key_v4(1, port), 1), Ticks(1)).unwrap();
        table.entry(number.peer()).touch(Ticks(1));
        kept.push(key_v4(1, port));
    }
    let mut refused = 0;
    for port in 0..10_000_u16 {
        let outcome = tracker.insert(&flow(key_v4(2, port), 1), Ticks(2));
        refused += u32::from(outcome == Err(NotTracked::Full));
        tracker.maintain(2 * SECOND);
        reader.quiesce();
    }
    assert_eq!(refused, 0, "one is evicted for each that comes");
    let left = kept.iter().filter(|key| find(&table, key).is_some()).count();
    assert_eq!(left, kept.len(), "answered flows stay while there are others");
    reader.offline();
}

#[test]
fn tcp_goes_through_its_states() {
    let seen = |flags: &[u8]| TcpSeen(flags.iter().fold(0, |all, &one| all | TcpSeen::of_flags(one).0));
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    const FIN: u8 = 1;
    const RST: u8 = 4;
    let cases: [(&[u8], &[u8], TcpState); 9] = [
        (&[SYN], &[], TcpState::SynSent),
        (&[SYN], &[SYN | ACK], TcpState::SynReceived),
        (&[SYN, ACK], &[SYN | ACK], TcpState::Established),
        (&[SYN, ACK, FIN | ACK], &[SYN | ACK, ACK], TcpState::FinWait),
        (&[SYN, ACK, FIN | ACK], &[SYN | ACK, FIN | ACK], TcpState::TimeWait),
        (&[SYN], &[RST | ACK], TcpState::Close),
        (&[SYN, ACK, RST], &[SYN | ACK], TcpState::Close),
        (&[ACK], &[], TcpState::Unacknowledged),
        (&[ACK], &[ACK], TcpState::Established),
    ];
    for (original, reply, state) in cases {
        assert_eq!(TcpState::of(seen(original), seen(reply)), state, "{original:?} {reply:?}");
    }
}

#[test]
fn the_memory_for_a_million_flows_stays_within_256_mebibytes() {
    let bytes = FlowTable::lines(1 << 20) * size_of::<Line>();
    assert!(bytes <= 256 << 20, "{} MiB", bytes >> 20);
}

#[test]
fn a_table_of_an_impossible_size_is_refused_with_the_number() {
    let domain = Domain::new(1);
    let config = FlowTableConfig { connections: 3, secret: [0; 4], timeouts: Timeouts::default() };
    let refused = FlowTable::try_new(config, Region::from_heap(Line::zeroed(1)), &domain);
    assert_eq!(refused.unwrap_err(), FlowTableError::Connections(3));
    let config = FlowTableConfig { connections: 1024, ..config };
    let refused = FlowTable::try_new(config, Region::from_heap(Line::zeroed(1)), &domain);
    assert!(matches!(refused, Err(FlowTableError::Memory { given: 1, .. })));
}

#[test]
fn workers_that_insert_the_same_keys_at_once_agree_on_one_flow_each() {
    let (table, reader) = table(4096);
    drop(reader);
    let results: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (table, mut reader) = (table.clone(), table.domain().register().unwrap());
                scope.spawn(move || {
                    reader.online();
                    let mut tracker = Tracker::new(table);
                    let won = (0..1000)
                        .map(|port| {
                            loop {
                                match tracker.insert(&flow(key_v4(1, port), 1), Ticks(1)) {
                                    Ok(_) => break true,
                                    Err(NotTracked::Exists(_)) => break false,
                                    Err(NotTracked::Contended) => {}
                                    Err(other) => panic!("{other}"),
                                }
                            }
                        })
                        .collect();
                    reader.offline();
                    won
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for port in 0..1000 {
        let winners = results.iter().filter(|won| won[port]).count();
        assert_eq!(winners, 1, "flow {port}");
        assert!(find(&table, &key_v4(1, port as u16)).is_some());
    }
}

#[derive(Clone, Debug)]
enum Action {
    Insert(bool, u32, u16, u16),
    Remove(bool, u32, u16),
    Quiesce,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (any::<bool>(), 0..6_u32, 0..4_u16, 0..3_u16).prop_map(|(v6, c, p, b)| Action::Insert(v6, c, p, b)),
        3 => (any::<bool>(), 0..6_u32, 0..4_u16).prop_map(|(v6, c, p)| Action::Remove(v6, c, p)),
        1 => Just(Action::Quiesce),
    ]
}

proptest! {
    /// The reference: two maps, from key to what it is rewritten to, and the reply keys in use.
    #[test]
    fn the_table_does_what_two_hash_maps_do(actions in proptest::collection::vec(action(), 1..200)) {
        let (table, mut reader) = table(1024);
        let mut tracker = Tracker::new(table.clone());
        let mut reference: HashMap<FlowKey, FlowKey> = HashMap::new();
        for action in actions {
            let key_of = |v6, client, port| if v6 { key_v6(client, port) } else { key_v4(client, port) };
            match action {
                Action::Insert(v6, client, port, backend) => {
                    let flow = flow(key_of(v6, client, port), 8000 + backend);
                    let outcome = tracker.insert(&flow, Ticks(1));
                    prop_assert_eq!(outcome.is_ok(), !reference.contains_key(&flow.key));
                    if outcome.is_ok() {
                        reference.insert(flow.key, flow.original.rewritten);
                        reference.insert(flow.original.rewritten.reversed(), flow.key.reversed());
                    }
                }
                Action::Remove(v6, client, port) => {
                    let key = key_of(v6, client, port);
                    if let Some(number) = find(&table, &key) {
                        tracker.remove(number);
                    }
                    if let Some(rewritten) = reference.remove(&key) {
                        reference.remove(&rewritten.reversed());
                    }
                }
                Action::Quiesce => {
                    reader.quiesce();
                    tracker.maintain(1);
                }
            }
            for (key, rewritten) in &reference {
                let number = find(&table, key);
                prop_assert!(number.is_some(), "{:?} is lost", key);
                prop_assert_eq!(&number.map(|number| table.entry(number).rewritten()), &Some(*rewritten));
            }
            let listed = table.flows(Ticks(1)).count();
            prop_assert_eq!(listed, reference.len());
        }
        reader.offline();
    }

    #[test]
    fn a_key_survives_packing(v6: bool, a: u128, b: u128, ports: (u16, u16), protocol: u8, fragment: bool) {
        let address = |bits: u128| if v6 { Address::from_v6(bits | 1 << 127) } else { Address::from_v4(bits as u32) };
        let key = FlowKey {
            source: address(a), destination: address(b), source_port: ports.0, destination_port: ports.1,
            protocol, fragment,
        };
        let (table, mut reader) = table(1024);
        let mut tracker = Tracker::new(table.clone());
        let number = tracker.insert(&NewFlow { key, original: verdict(key), reply: None }, Ticks(1)).unwrap();
        prop_assert_eq!(table.entry(number).key(), key);
        prop_assert!(table.entry(number).is(&key.words()));
        reader.offline();
    }
}
