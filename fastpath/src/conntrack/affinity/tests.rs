use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

const SECRET: Secret =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];
const WEB: ServiceId = ServiceId(7);
const DNS: ServiceId = ServiceId(8);
const HOUR: u32 = 3600;

fn table(clients: u32) -> AffinityTable {
    let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(clients)));
    AffinityTable::try_new(clients, SECRET, memory).unwrap()
}

/// Clients of both families, by number.
fn client(number: u32) -> Address {
    if number.is_multiple_of(2) {
        Address::from_v4(0x0a00_0000 + number)
    } else {
        Address::from_v6(0xfd00 << 112 | u128::from(number))
    }
}

/// Of `clients`, how many are bound to what was last kept for them: their number.
fn found(table: &AffinityTable, clients: std::ops::Range<u32>) -> usize {
    clients.filter(|&n| table.find(WEB, client(n), Ticks(1), HOUR) == Some(n)).count()
}

#[test]
fn a_client_is_bound_for_each_service_port_alone() {
    let table = table(1024);
    for n in [2, 3] {
        table.keep(WEB, client(n), 70 + n, Ticks(1));
        table.keep(DNS, client(n), 80 + n, Ticks(1));
    }
    for n in [2, 3] {
        assert_eq!(table.find(WEB, client(n), Ticks(1), HOUR), Some(70 + n));
        assert_eq!(table.find(DNS, client(n), Ticks(1), HOUR), Some(80 + n));
        assert_eq!(table.find(ServiceId(9), client(n), Ticks(1), HOUR), None);
    }
    assert_eq!(table.find(WEB, client(4), Ticks(1), HOUR), None);
    assert_eq!((table.len(), table.is_empty()), (4, false));
}

#[test]
fn a_binding_is_found_until_it_is_older_than_the_timeout() {
    let table = table(16);
    let bound = Ticks(100);
    table.keep(WEB, client(1), 5, bound);
    let last = (100..).map(Ticks).take_while(|now| now.seconds_since(bound) <= 60).last().unwrap();
    assert_eq!(table.find(WEB, client(1), last, 60), Some(5));
    assert_eq!(table.find(WEB, client(1), Ticks(last.0 + 1), 60), None);
    assert_eq!(
        table.find(WEB, client(1), Ticks(last.0 + 1), 62),
        Some(5),
        "each service has its own timeout"
    );
    assert_eq!(
        table.find(WEB, client(1), Ticks(99), 60),
        Some(5),
        "a clock that is a tick behind does no harm"
    );
}

#[test]
fn a_binding_lives_on_when_it_is_renewed_and_follows_when_it_is_replaced() {
    let table = table(16);
    table.keep(WEB, client(1), 5, Ticks(100));
    table.keep(WEB, client(1), 5, Ticks(150));
    assert_eq!(table.find(WEB, client(1), Ticks(200), 60), Some(5));
    table.keep(WEB, client(1), 5, Ticks(149));
    assert_eq!(
        table.find(WEB, client(1), Ticks(205), 60),
        Some(5),
        "a worker that is behind does not age it"
    );
    table.keep(WEB, client(1), 6, Ticks(150));
    assert_eq!(table.find(WEB, client(1), Ticks(200), 60), Some(6));
    assert_eq!(table.len(), 1);
}

#[test]
fn an_expired_binding_is_taken_up_again_in_its_place() {
    let table = table(16);
    table.keep(WEB, client(1), 5, Ticks(1));
    table.keep(WEB, client(1), 6, Ticks(100_000));
    assert_eq!(table.find(WEB, client(1), Ticks(100_000), 1), Some(6));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_forgotten_binding_is_gone_and_others_stay() {
    let table = table(16);
    table.keep(WEB, client(1), 5, Ticks(1));
    table.keep(DNS, client(1), 6, Ticks(1));
    table.forget(WEB, client(1));
    table.forget(WEB, client(2));
    assert_eq!(table.find(WEB, client(1), Ticks(1), HOUR), None);
    assert_eq!(table.find(DNS, client(1), Ticks(1), HOUR), Some(6));
    assert_eq!(table.len(), 1);
}

#[test]
fn without_a_time_nothing_is_bound() {
    let table = table(16);
    table.keep(WEB, client(1), 5, Ticks::default());
    assert!(table.is_empty());
    table.keep(WEB, client(1), 5, Ticks(9));
    assert_eq!(table.find(WEB, client(1), Ticks::default(), 0), Some(5));
}

#[test]
fn a_full_table_replaces_who_was_silent_for_longest() {
    let table = table(1); // two buckets: every client may stand everywhere
    for n in 0..8 {
        table.keep(WEB, client(n), n, Ticks(10 + n));
    }
    assert_eq!(table.len(), 8);
    table.keep(WEB, client(0), 0, Ticks(30));
    table.keep(WEB, client(8), 8, Ticks(31));
    let bound = |n| table.find(WEB, client(n), Ticks(31), HOUR).is_some();
    let lost: Vec<u32> = (0..9).filter(|&n| !bound(n)).collect();
    assert_eq!(lost, [1]);
    assert_eq!(table.len(), 8);
}

#[test]
fn the_bindings_of_a_service_port_are_listed() {
    let table = table(64);
    table.keep(WEB, client(1), 5, Ticks(10));
    table.keep(WEB, client(2), 6, Ticks(20));
    table.keep(DNS, client(1), 7, Ticks(20));
    table.keep(WEB, client(3), 8, Ticks(20));
    table.forget(WEB, client(3));
    let mut listed: Vec<AffinityInfo> = table.of_service(WEB, Ticks(30)).collect();
    listed.sort_by_key(|info| info.backend);
    let idle = |last| Ticks(30).seconds_since(Ticks(last));
    assert_eq!(
        listed,
        [
            AffinityInfo { client: client(1), backend: 5, idle_seconds: idle(10) },
            AffinityInfo { client: client(2), backend: 6, idle_seconds: idle(20) },
        ]
    );
}

#[test]
fn a_table_over_the_same_memory_goes_on_with_the_bindings() {
    let former = table(64);
    for n in 0..50 {
        former.keep(WEB, client(n), n, Ticks(1 + n));
    }
    let lines = Line::zeroed(AffinityTable::lines(64));
    for (line, kept) in lines.iter().zip(former.memory.iter()) {
        (0..Line::WORDS).for_each(|word| line.set(word, kept.get(word)));
    }
    drop(former);
    let adopted = AffinityTable::try_new(64, [7; 4], Region::from_heap(lines)).unwrap();
    for n in 0..50 {
        assert_eq!(adopted.find(WEB, client(n), Ticks(60), HOUR), Some(n));
    }
    assert_eq!((adopted.len(), adopted.of_service(WEB, Ticks(60)).count()), (50, 50));
}

#[test]
fn any_contents_of_the_memory_are_valid() {
    let lines = Line::zeroed(AffinityTable::lines(8));
    let (bindings, identity) = lines.split_at(lines.len() - 1);
    identity::put(&identity[0], LAYOUT, u64::from(buckets(8)), &SECRET);
    for (number, line) in bindings.iter().enumerate() {
        (0..Line::WORDS).for_each(|word| line.set(word, u64::MAX - (number * 8 + word) as u64));
    }
    let table = AffinityTable::try_new(8, SECRET, Region::from_heap(lines)).unwrap();
    assert_eq!(table.of_service(WEB, Ticks(1)).count(), 0);
    assert_eq!(found(&table, 0..100), 0);
    table.keep(WEB, client(1), 1, Ticks(1));
    assert_eq!(found(&table, 0..100), 1);
}

#[test]
fn memory_of_another_kind_is_cleared() {
    let lines = Line::zeroed(AffinityTable::lines(8));
    lines.iter().for_each(|line| (0..Line::WORDS).for_each(|word| line.set(word, 7)));
    assert!(AffinityTable::try_new(8, SECRET, Region::from_heap(lines)).unwrap().is_empty());
}

#[test]
fn a_table_that_makes_no_sense_is_refused() {
    let memory = |lines| Region::from_heap(Line::zeroed(lines));
    let refused = |clients, lines| AffinityTable::try_new(clients, SECRET, memory(lines)).unwrap_err();
    assert_eq!(refused(0, 4), AffinityError::Clients(0));
    assert_eq!(refused((1 << 29) + 1, 4), AffinityError::Clients((1 << 29) + 1));
    assert_eq!(refused(1, 3), AffinityError::Memory { given: 3, needed: 5 });
    assert_eq!(AffinityTable::lines(1 << 20) * size_of::<Line>(), (48 << 20) + 64);
}

/// As many clients as the table is made for, all at once.
fn fill(clients: u32) {
    let table = table(clients);
    for n in 0..clients {
        table.keep(WEB, client(n), n, Ticks(1));
    }
    let found = found(&table, 0..clients);
    assert!(found * 1000 >= clients as usize * 998, "{found} of {clients}");
}

#[test]
fn as_many_clients_fit_as_it_is_made_for() {
    fill(1024);
    fill(30_000);
    fill(1 << 20);
}

#[test]
fn clients_that_come_without_end_hardly_replace_the_recent_ones() {
    let clients = 8192;
    let table = table(clients);
    let all = clients * 10;
    for n in 0..all {
        table.keep(WEB, client(n), n, Ticks(1 + n / 64));
    }
    let now = Ticks(1 + all / 64);
    let recent = all - clients..all;
    let found = recent.filter(|&n| table.find(WEB, client(n), now, HOUR) == Some(n)).count();
    assert!(found * 100 >= clients as usize * 99, "{found} of {clients}");
}

#[test]
fn workers_that_fight_over_few_entries_never_see_the_endpoint_of_another_client() {
    let table = table(1);
    let rounds = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    // Clients' own digests are the hundreds: a hundred and the worker's number.
    let digest = |n: u32, worker: u32| (n + 1) * 100 + worker;
    let known: HashSet<u32> = (0..12).flat_map(|n| (0..3).map(move |worker| digest(n, worker))).collect();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let (table, known) = (&table, &known);
            scope.spawn(move || {
                for round in 0..rounds {
                    let n = (round * 7 + worker * 5) % 12;
                    let now = Ticks(1 + round / 100);
                    if let Some(seen) = table.find(WEB, client(n), now, HOUR) {
                        assert!(!known.contains(&seen) || seen / 100 == n + 1, "{seen} for client {n}");
                    }
                    table.keep(WEB, client(n), digest(n, worker), now);
                    if round % 5 == 0 {
                        table.forget(WEB, client((n + 1) % 12));
                    }
                }
            });
        }
    });
    let kept: Vec<u64> = table.all().map(|place| table.heads(place).get(place.entry)).collect();
    let used = kept.iter().filter(|&&fingerprint| fingerprint != FREE);
    assert_eq!(used.clone().count(), used.collect::<HashSet<_>>().len(), "no client is there twice");
}

#[derive(Clone, Debug)]
enum Action {
    Keep(ServiceId, u32, u32),
    Forget(ServiceId, u32),
    Wait(u32),
}

fn action() -> impl Strategy<Value = Action> {
    let service = || prop_oneof![Just(WEB), Just(DNS), Just(ServiceId(u32::MAX))];
    prop_oneof![
        5 => (service(), 0..20_u32, any::<u32>()).prop_map(|(s, c, b)| Action::Keep(s, c, b)),
        2 => (service(), 0..20_u32, 0..3_u32).prop_map(|(s, c, b)| Action::Keep(s, c, b)),
        2 => (service(), 0..20_u32).prop_map(|(s, c)| Action::Forget(s, c)),
        2 => (0..40_u32).prop_map(Action::Wait),
    ]
}

proptest! {
    /// The reference: a map from service port and client to the endpoint and the time.
    #[test]
    fn the_table_does_what_a_hash_map_does(
        actions in proptest::collection::vec(action(), 1..200), secret: Secret, timeout in 0..100_u32,
    ) {
        // Small factors spread nothing; the kernel gives none such.
        let secret = std::array::from_fn(|i| secret[i] ^ SECRET[i]);
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(1024)));
        let table = AffinityTable::try_new(1024, secret, memory).unwrap();
        let mut reference: HashMap<(ServiceId, u32), (u32, Ticks)> = HashMap::new();
        let mut now = Ticks(1);
        for action in actions {
            match action {
                Action::Keep(service, n, backend) => {
                    table.keep(service, client(n), backend, now);
                    reference.insert((service, n), (backend, now));
                }
                Action::Forget(service, n) => {
                    table.forget(service, client(n));
                    reference.remove(&(service, n));
                }
                Action::Wait(ticks) => now = Ticks(now.0 + ticks),
            }
            for service in [WEB, DNS, ServiceId(u32::MAX)] {
                for n in 0..20 {
                    let kept = reference.get(&(service, n));
                    let expected = kept.filter(|(_, last)| now.seconds_since(*last) <= timeout).map(|kept| kept.0);
                    prop_assert_eq!(table.find(service, client(n), now, timeout), expected);
                }
            }
            prop_assert_eq!(table.len(), reference.len());
        }
        for service in [WEB, DNS, ServiceId(u32::MAX)] {
            let listed: HashSet<_> =
                table.of_service(service, now).map(|info| (info.client, info.backend, info.idle_seconds)).collect();
            let expected: HashSet<_> = reference
                .iter()
                .filter(|((of, _), _)| *of == service)
                .map(|((_, n), (backend, last))| (client(*n), *backend, now.seconds_since(*last)))
                .collect();
            prop_assert_eq!(listed, expected);
        }
    }
}
