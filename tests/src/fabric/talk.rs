//! Everything that two places can say to each other.

use crate::ask::{Protocol, ask};
use crate::pod::{Family, Pod};
use crate::traffic::{datagram, exchange};
use std::net::{IpAddr, SocketAddr};

/// Payloads of UDP datagrams around each edge: MTU 1450 and 1430 behind VXLAN over IPv4 and IPv6, 1500 without, for both
/// families, and what has to be cut.
pub const EDGES: [usize; 24] = [
    0, 1, 1252, 1381, 1382, 1383, 1399, 1400, 1401, 1402, 1403, 1421, 1422, 1423, 1449, 1450, 1451, 1452,
    1453, 1471, 1472, 1473, 4000, 20_000,
];

/// A request and its answer by each protocol; the server sees the client at `seen`.
pub fn request(from: &Pod, to: SocketAddr, protocols: &[Protocol], name: &str, seen: IpAddr) {
    for protocol in protocols {
        let answer = ask(from, *protocol, to)
            .unwrap_or_else(|error| panic!("{} → {name} at {to}, {protocol:?}: {error}", from.name));
        assert_eq!(
            (answer.name.as_str(), answer.client.ip()),
            (name, seen),
            "{} → {to}, {protocol:?}",
            from.name
        );
    }
}

/// Requests by each protocol, a bulk of TCP both ways, datagrams and pings of each size; the server sees the client's own
/// address. [`crate::Echo`] and [`crate::serve_sctp`] serve `port`.
pub fn everything(from: &Pod, to: &Pod, family: Family, port: u16) {
    let at = to.at(family, port);
    request(from, at, &Protocol::ALL, &to.name, from.address(family));
    exchange(from, at, 4 << 20)
        .unwrap_or_else(|error| panic!("{} → {} {at}, TCP: {error}", from.name, to.name));
    sizes(from, to, family, port);
}

/// Datagrams and pings of each size.
pub fn sizes(from: &Pod, to: &Pod, family: Family, port: u16) {
    let at = to.at(family, port);
    for length in EDGES {
        // The first one too long may be the one that finds out the path's MTU.
        let found = (0..3).find_map(|_| datagram(from, at, length).ok());
        assert!(found.is_some(), "{} → {} {at}: {length} bytes of UDP are lost", from.name, to.name);
    }
    for size in ["56", "1372", "1402", "1403", "1472", "4000"] {
        let ping = ["ping", "-n", "-c2", "-i0.01", "-W2", "-s", size, &at.ip().to_string()];
        let output = from.netns().run(&ping);
        assert!(
            output.stdout.contains(" bytes from "),
            "ping {} → {at}, {size} bytes: {}",
            from.name,
            output.stdout
        );
        assert!(!output.stdout.contains("wrong data byte"), "{}", output.stdout);
    }
}

/// The largest packet that passes whole, found by pings that must not be cut, and one byte more that is refused.
pub fn assert_mtu(from: &Pod, to: IpAddr, mtu: u16) {
    let headers = if to.is_ipv4() { 28 } else { 48 };
    let ping = |size: u16| {
        let size = size.to_string();
        from.netns().run(&["ping", "-n", "-c1", "-W1", "-Mdo", "-s", &size, &to.to_string()]).success
    };
    assert!((0..3).any(|_| ping(mtu - headers)), "{} → {to}: {mtu} bytes do not pass", from.name);
    assert!(!ping(mtu - headers + 1), "{} → {to}: {} bytes pass", from.name, mtu + 1);
}

/// How many routers a packet passes: those that lower its TTL.
pub fn hops(from: &Pod, to: IpAddr) -> u8 {
    (1..=8)
        .find(|limit| {
            let limit = limit.to_string();
            from.netns().run(&["ping", "-n", "-c1", "-W1", "-t", &limit, &to.to_string()]).success
        })
        .unwrap_or_else(|| panic!("{} → {to}: no answer with any TTL", from.name))
        - 1
}
