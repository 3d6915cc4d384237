use super::*;
use proptest::prelude::*;

fn request(json: serde_json::Value) -> Result<TraceRequest, String> {
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[test]
fn senders_are_pods_or_ports() {
    let sender = |text: &str| text.parse::<Sender>();
    assert_eq!(sender("demo/a").unwrap().to_string(), "demo/a");
    assert_eq!(sender("a").unwrap().to_string(), "default/a");
    assert_eq!(sender("port:eth0.7").unwrap(), Sender::Port("eth0.7".parse().unwrap()));
    for bad in ["", "A B", "demo/a/b", "port:", "port:a/b", "/a", "DEMO/a"] {
        let error = sender(bad).unwrap_err().to_string();
        assert!(error.contains(bad.strip_prefix("port:").unwrap_or(bad)), "{bad}: {error}");
    }
}

#[test]
fn destinations_are_written_as_in_urls() {
    let to = |text: &str| text.parse::<Destination>().map(|to| (to.address.to_string(), to.port));
    assert_eq!(to("10.0.0.1:80").unwrap(), ("10.0.0.1".to_owned(), Some(80)));
    assert_eq!(to("[fd00::1]:80").unwrap(), ("fd00::1".to_owned(), Some(80)));
    assert_eq!(to("fd00::1").unwrap(), ("fd00::1".to_owned(), None));
    assert_eq!(to("[fd00::1]").unwrap(), ("fd00::1".to_owned(), None));
    for bad in ["10.0.0.1:70000", "10.0.0", "web:80", "[fd00::1:80", ":80", ""] {
        assert!(to(bad).unwrap_err().to_string().contains(bad), "{bad}");
    }
}

#[test]
fn parts_that_do_not_go_together_are_refused_by_name() {
    use serde_json::json;
    let refused = |json: serde_json::Value, parts: &[&str]| {
        let error = request(json.clone()).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{json}: {error}");
    };
    refused(json!({"from": "a", "to": "10.0.0.1", "proto": "tcp"}), &["10.0.0.1", "no port", "tcp"]);
    refused(json!({"from": "a", "to": "fd00::1:80", "proto": "udp"}), &["fd00::1:80", "[ADDRESS]:PORT"]);
    refused(json!({"from": "a", "to": "10.0.0.1:80", "proto": "icmp"}), &["10.0.0.1:80", "icmp"]);
    refused(json!({"from": "a", "to": "10.0.0.1", "proto": "icmpv6"}), &["icmpv6", "10.0.0.1"]);
    refused(json!({"from": "a", "to": "10.0.0.1", "proto": "47", "sourcePort": 7}), &["7", "47"]);
    refused(json!({"from": "a", "to": "10.0.0.1:1", "proto": "tcp", "source": "fd00::1"}), &["fd00::1"]);
    refused(json!({"from": "a", "to": "[::ffff:10.0.0.1]:1", "proto": "tcp"}), &["::ffff:10.0.0.1"]);
    refused(json!({"from": "a", "to": "10.0.0.1:1", "proto": "tcp", "size": 39}), &["39", "40"]);
    refused(json!({"from": "a", "to": "[fd00::1]:1", "proto": "sctp", "size": 51}), &["51", "52"]);
    refused(json!({"from": "a", "to": "10.0.0.1:1", "proto": "tcp", "colour": 1}), &["colour"]);
    assert!(request(json!({"from": "a", "to": "10.0.0.1:1", "proto": "tcp", "size": 40})).is_ok());
}

#[test]
fn what_is_left_open_has_a_value() {
    use serde_json::json;
    let tcp = request(json!({"from": "a", "to": "10.0.0.1:1", "proto": "tcp"})).unwrap();
    assert_eq!((tcp.source_port(), tcp.size(), tcp.ttl()), (Some(DEFAULT_SOURCE_PORT), 60, 64));
    let ping = request(json!({"from": "a", "to": "fd00::1", "proto": "icmp"})).unwrap();
    assert_eq!((ping.protocol(), ping.size()), (Protocol::Icmpv6, 80));
    let gre = request(json!({"from": "a", "to": "10.0.0.1", "proto": "47"})).unwrap();
    assert_eq!(gre.source_port(), None);
    assert_eq!(tcp.to_path(), "/v1/trace?from=default%2Fa&to=10.0.0.1%3A1&proto=tcp");
}

#[test]
fn a_tuple_is_written_with_what_is_known_of_it() {
    let mut tuple = Tuple {
        protocol: Protocol::Tcp,
        source: [10, 0, 0, 1].into(),
        source_port: None,
        destination: "fd00::2".parse().unwrap(),
        destination_port: Some(80),
    };
    assert_eq!(tuple.to_string(), "tcp 10.0.0.1:* -> [fd00::2]:80");
    (tuple.protocol, tuple.source_port, tuple.destination_port) = (Protocol::Icmp, Some(7), None);
    assert_eq!(tuple.to_string(), "icmp 10.0.0.1 -> fd00::2, identifier 7");
    (tuple.protocol, tuple.source_port) = (Protocol::Other(47), None);
    assert_eq!(tuple.to_string(), "47 10.0.0.1 -> fd00::2");
}

proptest! {
    #[test]
    fn a_destination_reads_back(v6: bool, bits: u128, port: Option<u16>) {
        let address: IpAddr = if v6 { std::net::Ipv6Addr::from_bits(bits).into() }
            else { std::net::Ipv4Addr::from_bits(bits as u32).into() };
        let to = Destination { address, port };
        prop_assert_eq!(to.to_string().parse::<Destination>().unwrap(), to);
    }

    #[test]
    fn any_text_is_a_sender_or_refused(text in ".{0,40}") {
        if let Ok(sender) = text.parse::<Sender>() {
            prop_assert_eq!(sender.to_string().parse::<Sender>().unwrap(), sender);
        }
    }
}
