use super::*;

const PEERS: &str = r#"{"peers": [
  {"name": "n2", "mode": "native", "reason": "same-link", "state": "reached", "address": "192.0.2.2",
   "ranges": ["10.1.2.0/24", "fd00:2::/64"], "mtu": 1500,
   "nextHops": [{"port": "eth0", "address": "192.0.2.2", "mac": "02:00:00:00:00:02"}]},
  {"name": "n3", "mode": "vxlan", "reason": "annotation", "state": "resolving", "address": "198.51.100.3",
   "vtepMac": "02:56:c6:33:64:03", "ranges": ["10.1.3.0/24"], "nextHops": [],
   "awaited": [{"port": "eth0", "address": "192.0.2.254"}]}]}"#;

fn squeezed(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn other_nodes_are_shown_with_their_way_and_what_it_waits_for() {
    let outcome = run_against("200 OK", PEERS, &["peer", "list"]);
    assert!(outcome.asked.starts_with("GET /v1/peers "), "{}", outcome.asked);
    assert_eq!(
        squeezed(&outcome.out),
        [
            "NAME MODE REASON STATE ADDRESS RANGES MTU VTEP MAC NEXT HOPS",
            "n2 native same-link reached 192.0.2.2 10.1.2.0/24,fd00:2::/64 1500 - 192.0.2.2 02:00:00:00:00:02 eth0",
            "n3 vxlan annotation resolving 198.51.100.3 10.1.3.0/24 - 02:56:c6:33:64:03 192.0.2.254 eth0",
        ]
    );
}

#[test]
fn the_route_to_an_address_is_asked_for_by_the_address() {
    let body = r#"{"routes": [{"prefix": "fd00:2::/64", "kind": "waiting", "nextHops": []}]}"#;
    let outcome = run_against("200 OK", body, &["route", "list", "--to", "fd00:2::7"]);
    assert!(outcome.asked.starts_with("GET /v1/routes?to=fd00%3A2%3A%3A7 "), "{}", outcome.asked);
    assert_eq!(squeezed(&outcome.out)[1], "fd00:2::/64 waiting -");
    assert!(run_against("200 OK", body, &["route", "list"]).asked.starts_with("GET /v1/routes "));
    let wrong = Arguments::try_parse_from(["millrace", "route", "list", "--to", "10.0.0.300"]).unwrap_err();
    assert!(wrong.to_string().contains("10.0.0.300"));
}

#[test]
fn the_status_tells_of_uplinks_where_there_are_any() {
    let body = r#"{"uplinks": 2, "uplinksUp": 1, "peers": 7, "peersReached": 6}"#;
    let told = squeezed(&run_against("200 OK", body, &["status"]).out);
    assert!(told.contains(&"uplinks 2 (1 up)".to_owned()), "{told:?}");
    assert!(told.contains(&"other nodes 7 (6 reached)".to_owned()), "{told:?}");
    let without = run_against("200 OK", "{}", &["status"]).out;
    assert!(!without.contains("uplinks"), "{without}");
}
