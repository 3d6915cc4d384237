//! Packets that wait for a neighbour.

use super::parking::{Outcome, Parking};
use crate::pipeline::{Nanos, Wait};
use crate::port::{Burst, PortId};
use crate::tables::{Address, Adjacency, Gateway, Route, TableSet};
use crate::wire::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

const SECOND: u64 = 1_000_000_000;
const UPLINK: PortId = PortId(3);

fn wait(last: u8, since: u64) -> Wait {
    Wait { arrival: PortId(1), port: UPLINK, address: address(last), since: Nanos(since) }
}

fn address(last: u8) -> Address {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn tables() -> TableSet {
    let mut tables = TableSet::empty(Gateway {
        mac: MacAddr([2; 6]),
        ipv4: Ipv4Addr::LOCALHOST,
        ipv6: Ipv6Addr::LOCALHOST,
    });
    tables.routes.insert("192.0.2.0/24".parse().unwrap(), Route::OnLink(UPLINK));
    tables.version = 1;
    tables
}

#[test]
fn few_wait_for_one_address_and_not_many_in_all() {
    let mut parking = Parking::new();
    for frame in 0..3 {
        assert!(!matches!(parking.put(wait(1, 0), frame), Outcome::Refused(_)));
    }
    assert!(matches!(parking.put(wait(1, 0), 3), Outcome::Refused(3)));
    let taken =
        (2..100).filter(|&last| !matches!(parking.put(wait(last, 0), 9), Outcome::Refused(_))).count();
    assert_eq!(taken, 61);
}

#[test]
fn an_address_is_told_once_and_again_after_a_while() {
    let mut parking = Parking::new();
    assert!(matches!(parking.put(wait(1, 0), 0), Outcome::New));
    assert!(matches!(parking.put(wait(1, SECOND / 100), 1), Outcome::Known));
    assert!(matches!(parking.put(wait(2, SECOND / 100), 2), Outcome::New));
    assert!(matches!(parking.put(wait(1, SECOND / 5), 3), Outcome::New));
}

#[test]
fn what_has_waited_a_second_is_given_up_the_oldest_first() {
    let mut parking = Parking::new();
    parking.put(wait(1, 0), 'a');
    parking.put(wait(2, SECOND / 2), 'b');
    assert_eq!(parking.take_late(Nanos(SECOND - 1)), None);
    assert_eq!(parking.take_late(Nanos(SECOND)), Some('a'));
    assert_eq!(parking.take_late(Nanos(SECOND)), None);
    assert!(!parking.is_empty());
}

#[test]
fn what_is_ready_goes_in_its_order_as_soon_as_the_tables_say_so() {
    let (mut parking, mut tables, mut burst) = (Parking::new(), tables(), Burst::new());
    let arrivals = [(1, 1), (2, 1), (1, 1), (1, 2)];
    for (frame, (last, arrival)) in arrivals.into_iter().enumerate() {
        parking.put(Wait { arrival: PortId(arrival), ..wait(last, 0) }, frame);
    }
    assert_eq!(parking.take_ready(&tables, &mut burst), None);
    let id = tables.routes.add_adjacency(Adjacency {
        port: UPLINK,
        mtu: 1500,
        destination_mac: MacAddr([4; 6]),
        source_mac: MacAddr([2; 6]),
        tunnel: None,
    });
    tables.routes.insert(address(1).to_ip().into(), Route::Via(id));
    assert_eq!(parking.take_ready(&tables, &mut burst), None, "the version is the same");
    tables.version += 1;
    assert_eq!((parking.take_ready(&tables, &mut burst), &burst[..]), (Some(PortId(1)), &[0, 2][..]));
    burst.clear();
    assert_eq!((parking.take_ready(&tables, &mut burst), &burst[..]), (Some(PortId(2)), &[3][..]));
    burst.clear();
    assert_eq!(parking.take_ready(&tables, &mut burst), None);
    assert!(!parking.is_empty(), "one waits on");
}
