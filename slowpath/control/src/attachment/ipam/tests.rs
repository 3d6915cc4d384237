use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;

fn ranges(texts: &[&str]) -> Ipam {
    let mut ipam = Ipam::default();
    ipam.set_ranges(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
    ipam
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nobody(_: IpAddr) -> bool {
    false
}

#[test]
fn a_dual_stack_node_gives_one_address_of_each_family_and_goes_on_from_there() {
    let mut ipam = ranges(&["10.1.0.0/24", "fd00:1::/64"]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.1.0.2"), ip("fd00:1::2")]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.1.0.3"), ip("fd00:1::3")]);
    assert_eq!((ipam.left(Family::V4), ipam.left(Family::V6)), (Some(251), Some(u64::MAX - 3)));
    assert_eq!(ranges(&["fd00::/48"]).left(Family::V6), Some(u64::MAX), "there are more");
    assert_eq!(ranges(&["10.1.0.0/24"]).left(Family::V6), None);
}

#[test]
fn network_router_and_broadcast_addresses_are_not_given_except_in_ranges_without_them() {
    let all = |range: &str| {
        let mut ipam = ranges(&[range]);
        std::iter::from_fn(|| Some(ipam.give(&[], nobody).ok()?[0].to_string())).collect::<Vec<_>>()
    };
    assert_eq!(all("10.1.0.0/29"), ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]);
    assert_eq!(all("10.1.0.0/30"), ["10.1.0.2"]);
    assert_eq!(all("10.1.0.0/31"), ["10.1.0.0", "10.1.0.1"]);
    assert_eq!(all("10.1.0.7/32"), ["10.1.0.7"]);
    assert_eq!(all("fd00::/126"), ["fd00::2", "fd00::3"]);
    assert_eq!(all("255.255.255.252/30"), ["255.255.255.254"]);
}

#[test]
fn an_address_that_was_given_back_is_given_again_only_when_no_other_is_free() {
    let mut ipam = ranges(&["10.1.0.0/29"]);
    let first = ipam.give(&[], nobody).unwrap()[0];
    let second = ipam.give(&[], nobody).unwrap()[0];
    ipam.give_back(second);
    ipam.give_back(first);
    let others: Vec<IpAddr> = (0..3).map(|_| ipam.give(&[], nobody).unwrap()[0]).collect();
    assert!(!others.contains(&first) && !others.contains(&second));
    // The one that has rested for longest.
    assert_eq!(ipam.give(&[], nobody).unwrap(), [second]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [first]);
}

#[test]
fn what_rests_and_where_to_go_on_survives() {
    let mut ipam = ranges(&["10.1.0.0/28"]);
    for _ in 0..3 {
        ipam.give(&[], nobody).unwrap();
    }
    ipam.give_back(ip("10.1.0.3"));
    let text = serde_json::to_string(&ipam.memory()).unwrap();
    let mut next = Ipam::new(&serde_json::from_str(&text).unwrap());
    next.set_ranges(&["10.1.0.0/28".parse().unwrap()]);
    next.take(ip("10.1.0.2"));
    next.take(ip("10.1.0.4"));
    assert_eq!(next.give(&[], nobody).unwrap(), [ip("10.1.0.5")]);
    let rest: Vec<IpAddr> = (0..10).map(|_| next.give(&[], nobody).unwrap()[0]).collect();
    assert_eq!(rest.last(), Some(&ip("10.1.0.3")));
}

#[test]
fn exhaustion_names_family_and_ranges_and_takes_nothing() {
    let mut ipam = ranges(&["10.1.0.0/30", "fd00::/64"]);
    ipam.give(&[], nobody).unwrap();
    let before = ipam.left(Family::V6);
    let error = ipam.give(&[], nobody).unwrap_err();
    assert_eq!(error.to_string(), "no IPv4 address is left in 10.1.0.0/30: all 1 are taken");
    assert_eq!(ipam.left(Family::V6), before, "no IPv6 address is lost by it");
    assert_eq!(Ipam::default().give(&[], nobody).unwrap_err(), IpamError::NoRange);
}

#[test]
fn requested_addresses_are_honoured_or_refused_with_the_reason() {
    let mut ipam = ranges(&["10.1.0.0/24", "fd00:1::/64"]);
    assert_eq!(ipam.give(&[ip("10.1.0.77")], nobody).unwrap(), [ip("10.1.0.77"), ip("fd00:1::2")]);
    let mut refused = |wanted: &[&str]| {
        let wanted: Vec<IpAddr> = wanted.iter().map(|text| ip(text)).collect();
        ipam.give(&wanted, |address| address == ip("10.1.0.9")).unwrap_err()
    };
    assert_eq!(refused(&["10.1.0.77"]), IpamError::Taken(ip("10.1.0.77")));
    assert_eq!(refused(&["10.1.0.9"]), IpamError::Taken(ip("10.1.0.9")), "by somebody else");
    assert!(matches!(refused(&["10.2.0.1"]), IpamError::Outside { .. }));
    for reserved in ["10.1.0.0", "10.1.0.1", "10.1.0.255", "fd00:1::"] {
        assert_eq!(refused(&[reserved]), IpamError::Reserved(ip(reserved)));
    }
    assert_eq!(refused(&["10.1.0.5", "10.1.0.6"]), IpamError::Several(ip("10.1.0.5"), ip("10.1.0.6")));
    // A refusal takes nothing, and what was asked for does not move the cursor.
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.1.0.2"), ip("fd00:1::3")]);
}

#[test]
fn several_ranges_are_used_one_after_the_other_and_may_change() {
    let mut ipam = ranges(&["10.1.0.0/30", "10.2.0.0/30"]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.1.0.2")]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.2.0.2")]);
    ipam.set_ranges(&["10.3.0.0/30".parse().unwrap()]);
    assert_eq!(ipam.give(&[], nobody).unwrap(), [ip("10.3.0.2")]);
    ipam.give_back(ip("10.1.0.2"));
    assert!(ipam.give(&[], nobody).is_err(), "it is not in a range any more");
}

#[test]
fn thousands_of_addresses_cost_little() {
    let mut ipam = ranges(&["10.0.0.0/16", "fd00::/48"]);
    let started = Instant::now();
    for _ in 0..8_000 {
        ipam.give(&[], nobody).unwrap();
    }
    // The worst case: the cursor is before all that is taken.
    ipam.pools[0].cursor = None;
    for _ in 0..100 {
        ipam.give(&[], nobody).unwrap();
    }
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

#[derive(Clone, Debug)]
enum Step {
    Give,
    Ask(u32),
    Back(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Give),
        1 => (0u32..40).prop_map(Step::Ask),
        3 => any::<usize>().prop_map(Step::Back),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// Beside a table that is searched from one end to the other.
    #[test]
    fn no_address_has_two_owners_and_none_is_withheld(steps in steps(), length in 27u8..=32, busy in 0u32..40) {
        let base = u32::from(Ipv4Addr::new(10, 1, 0, 0));
        let net = IpNet::new(Ipv4Addr::from(base).into(), length).unwrap();
        let mut ipam = Ipam::default();
        ipam.set_ranges(&[net]);
        let is_busy = |address: IpAddr| address == IpAddr::from(Ipv4Addr::from(base + busy));
        let possible: BTreeSet<IpAddr> = (0..40)
            .map(|offset| IpAddr::from(Ipv4Addr::from(base + offset)))
            .filter(|address| net.contains(address) && !is_busy(*address))
            .filter(|address| length >= 31 || (number(*address) - u128::from(base) >= 2 && *address != net.broadcast()))
            .collect();
        let (mut owned, mut freed, mut order) = (BTreeSet::new(), BTreeMap::new(), 0u32);
        for step in steps {
            order += 1;
            match step {
                Step::Give => match ipam.give(&[], is_busy) {
                    Ok(given) => {
                        let address = given[0];
                        prop_assert!(possible.contains(&address));
                        let never: Vec<&IpAddr> =
                            possible.iter().filter(|ip| !owned.contains(*ip) && !freed.contains_key(*ip)).collect();
                        if freed.contains_key(&address) {
                            prop_assert!(never.is_empty(), "{address} was freed, and {never:?} never used");
                            let oldest = freed.iter().min_by_key(|(_, at)| **at).map(|(ip, _)| *ip);
                            prop_assert_eq!(oldest, Some(address));
                        }
                        prop_assert!(owned.insert(address));
                        freed.remove(&address);
                    }
                    Err(_) => prop_assert_eq!(&owned, &possible),
                },
                Step::Ask(offset) => {
                    let wanted = IpAddr::from(Ipv4Addr::from(base + offset));
                    let free = possible.contains(&wanted) && !owned.contains(&wanted);
                    prop_assert_eq!(ipam.give(&[wanted], is_busy).is_ok(), free);
                    if free {
                        owned.insert(wanted);
                        freed.remove(&wanted);
                    }
                }
                Step::Back(which) => {
                    if let Some(&address) = owned.iter().nth(which % owned.len().max(1)) {
                        owned.remove(&address);
                        ipam.give_back(address);
                        freed.insert(address, order);
                    }
                }
            }
            let busy_taken = possible.len() as u64 - owned.len() as u64;
            prop_assert!(ipam.left(Family::V4).unwrap() >= busy_taken);
        }
    }
}
