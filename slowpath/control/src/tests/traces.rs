//! A trace says what a packet meets: here the packet is sent after it was traced, and both are compared.
//!
//! ```text
//!  port-1 (pod demo/a, 10.0.0.1) ─┐                          ┌─ port-2 (pod demo/b, 10.0.0.2)
//!                                 ├─ 10.96.0.1:80 demo/web ──┤
//!  port-9 (uplink, 0.0.0.0/0) ────┘  192.0.2.1:30080         └─ port-3 (10.0.0.3)
//! ```

use super::bench::{Node, eventually, name, port};
use super::objects::{self, SERVICE, service};
use super::packets::Udp;
use crate::TraceError;
use millrace_api::{ErrorCode, Trace, TraceOutcome, TraceRequest, Tuple};
use millrace_fastpath::port::{BufferFrame, Frame, PortId};
use millrace_model::{Object, ObjectName, Pod, PodPhase};
use std::net::IpAddr;

struct Lab {
    node: Node,
    ids: [PortId; 4],
}

impl Lab {
    fn new() -> Self {
        let mut node = Node::new(1);
        let mut add = |number: u8, change: &dyn Fn(&mut millrace_config::PortConfig)| {
            let mut config = port(number, 1);
            change(&mut config);
            node.control.add_port(config).unwrap()
        };
        let ids = [
            add(1, &|config| config.pod = Some("demo/a".parse().unwrap())),
            add(2, &|config| config.pod = Some("demo/b".parse().unwrap())),
            add(3, &|_| ()),
            add(9, &|config| config.addresses = vec!["0.0.0.0/0".parse().unwrap()]),
        ];
        for object in objects::cluster() {
            node.control.model().apply(object);
        }
        node.control.publish();
        Lab { node, ids }
    }

    fn ask(&self, from: &str, to: &str, more: &[(&str, &str)]) -> Result<Trace, TraceError> {
        let mut fields = serde_json::json!({"from": from, "to": to, "proto": "udp"});
        for (name, value) in more {
            fields[*name] = value.parse::<u64>().map_or_else(|_| (*value).into(), Into::into);
        }
        self.node.control.trace(&serde_json::from_value::<TraceRequest>(fields).unwrap())
    }

    /// Sends what was traced; gives the 5-tuple with which it leaves by the port that the trace names.
    fn send(&self, arrival: u8, trace: &Trace) -> Tuple {
        let out = trace.verdict.port.as_deref().unwrap();
        let number = ["port-1", "port-2", "port-3", "port-9"].iter().position(|name| *name == out).unwrap();
        let wire = self.node.wire(self.ids[number]);
        let before = wire.lock().unwrap().sent.len();
        self.offer(arrival, trace);
        eventually("the packet leaves by the port of the trace", || wire.lock().unwrap().sent.len() > before);
        let wire = wire.lock().unwrap();
        let frame = wire.sent[before].head();
        let mac: Vec<String> = frame[..6].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(trace.verdict.mac, Some(mac.join(":")));
        read(frame)
    }

    fn offer(&self, arrival: u8, trace: &Trace) {
        let at = [1, 2, 3, 9].iter().position(|&number| number == arrival).unwrap();
        self.node.wire(self.ids[at]).lock().unwrap().arrived.push_back(written(arrival, trace));
    }

    fn dropped(&self, reason: &str) -> u64 {
        let drops = self.node.control.drops().drops;
        drops.iter().find(|drop| drop.reason == reason).unwrap().frames
    }
}

/// The traced packet.
fn written(from: u8, trace: &Trace) -> BufferFrame {
    let tuple = &trace.packet.tuple;
    let end = |address: IpAddr, port: Option<u16>| match address {
        IpAddr::V4(address) => (address, port.unwrap()),
        IpAddr::V6(_) => panic!("only IPv4 is sent here"),
    };
    let (source, destination) =
        (end(tuple.source, tuple.source_port), end(tuple.destination, tuple.destination_port));
    Udp { source, destination, size: trace.packet.size, ttl: trace.packet.ttl }.frame(from)
}

fn read(frame: &[u8]) -> Tuple {
    let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let port = |at: usize| Some(u16::from_be_bytes([frame[at], frame[at + 1]]));
    Tuple {
        protocol: millrace_api::Protocol::from_number(frame[23]),
        source: address(26),
        source_port: port(34),
        destination: address(30),
        destination_port: port(36),
    }
}

fn stages(trace: &Trace) -> Vec<&str> {
    trace.steps.iter().map(|step| step.stage.as_str()).collect()
}

fn detail<'a>(trace: &'a Trace, stage: &str, name: &str) -> &'a str {
    let step = trace.steps.iter().find(|step| step.stage == stage).unwrap();
    step.details.get(name).unwrap_or_else(|| panic!("no {name} in {step:?}"))
}

#[test]
fn a_packet_to_a_service_goes_to_the_endpoint_of_the_trace() {
    let lab = Lab::new();
    let mut met = std::collections::BTreeSet::new();
    for source_port in 1000..1032 {
        let source_port = source_port.to_string();
        let more = [("sourcePort", source_port.as_str())];
        let trace = lab.ask("demo/a", "10.96.0.1:80", &more).unwrap();
        assert_eq!(
            stages(&trace),
            ["flow table", "source check", "services", "endpoint", "source address", "routes"]
        );
        assert_eq!(detail(&trace, "services", "service"), "demo/web:http");
        assert_eq!(detail(&trace, "services", "kind"), "ClusterIP");
        assert_eq!(detail(&trace, "services", "usable"), "2");
        assert_eq!(trace.verdict.outcome, TraceOutcome::Sent);
        assert_eq!(Some(lab.send(1, &trace)), trace.verdict.leaves_as, "{trace:?}");
        met.insert(detail(&trace, "endpoint", "endpoint").to_owned());
        let again = lab.ask("demo/a", "10.96.0.1:80", &more).unwrap();
        assert_eq!(again.verdict, trace.verdict, "a packet of the connection goes the same way");
        assert_eq!(detail(&again, "flow table", "service"), "demo/web:http");
        assert_eq!(detail(&again, "flow table", "endpoint"), detail(&trace, "endpoint", "endpoint"));
        assert!(!again.packet.default_source_port);
    }
    assert_eq!(met.into_iter().collect::<Vec<_>>(), ["10.0.0.2:8080", "10.0.0.3:8080"]);
    lab.node.end();
}

#[test]
fn the_endpoint_is_told_with_its_pod_and_that_it_depends_on_the_source_port() {
    let lab = Lab::new();
    let trace = lab.ask("demo/a", "10.96.0.1:80", &[]).unwrap();
    assert!(trace.packet.default_source_port);
    assert_eq!((trace.packet.port.as_str(), trace.packet.pod.as_deref()), ("port-1", Some("demo/a")));
    let step = trace.steps.iter().find(|step| step.stage == "endpoint").unwrap();
    assert_eq!(step.asked, "one of 2, by Maglev");
    assert!(step.answer.contains("source port 40000 (taken because none was given)"), "{}", step.answer);
    let pod = if step.details["endpoint"] == "10.0.0.2:8080" { "demo/b" } else { "demo/c" };
    assert_eq!((step.details["pod"].as_str(), step.details["node"].as_str()), (pod, "node"));
    lab.node.end();
}

#[test]
fn a_packet_from_outside_is_masqueraded_as_the_trace_says() {
    let lab = Lab::new();
    let source = [("source", "203.0.113.9")];
    let trace = lab.ask("port:port-9", "192.0.2.1:30080", &source).unwrap();
    assert_eq!(detail(&trace, "services", "kind"), "NodePort");
    assert_eq!(detail(&trace, "services", "origin"), "outside the cluster");
    assert_eq!(detail(&trace, "source address", "source"), "192.0.2.1");
    let told = trace.verdict.leaves_as.clone().unwrap();
    assert_eq!(told.source_port, None, "it is chosen when the connection is made");
    assert!(trace.verdict.text.contains("192.0.2.1:*"), "{}", trace.verdict.text);
    let seen = lab.send(9, &trace);
    assert_eq!(Tuple { source_port: None, ..seen.clone() }, told);
    assert!(seen.source_port.unwrap() >= 49_152, "{seen}");
    let again = lab.ask("port:port-9", "192.0.2.1:30080", &source).unwrap();
    assert_eq!(again.verdict.leaves_as, Some(seen), "now it is known");
    lab.node.end();
}

#[test]
fn a_pod_that_reaches_itself_is_masqueraded() {
    let lab = Lab::new();
    let itself = (1..200).map(|port: u16| port.to_string()).find_map(|port| {
        let trace = lab.ask("demo/b", "10.96.0.1:80", &[("sourcePort", &port)]).unwrap();
        (detail(&trace, "endpoint", "endpoint") == "10.0.0.2:8080").then_some(trace)
    });
    let trace = itself.unwrap();
    let step = trace.steps.iter().find(|step| step.stage == "source address").unwrap();
    assert!(step.answer.contains("the client is the endpoint itself"), "{}", step.answer);
    assert_eq!(trace.verdict.port.as_deref(), Some("port-2"));
    assert_eq!(lab.send(2, &trace).source, IpAddr::from([192, 0, 2, 1]));
    lab.node.end();
}

#[test]
fn a_drop_is_traced_with_its_reason_and_counted_under_it() {
    let lab = Lab::new();
    let refused = |from: &str, to: &str, more: &[(&str, &str)], outcome, reason: &str, stage: &str| {
        let trace = lab.ask(from, to, more).unwrap();
        assert_eq!(
            (trace.verdict.outcome, trace.verdict.reason.as_deref()),
            (outcome, Some(reason)),
            "{trace:?}"
        );
        assert_eq!(trace.steps.last().unwrap().stage, stage, "{trace:?}");
        assert!(trace.verdict.text.contains(reason), "{}", trace.verdict.text);
        let before = lab.dropped(reason);
        let arrival = trace.packet.port.trim_start_matches("port-").parse().unwrap();
        lab.offer(arrival, &trace);
        eventually(reason, || lab.dropped(reason) == before + 1);
    };
    use TraceOutcome::{Dropped, Icmp};
    refused("demo/a", "10.96.0.1:81", &[], Icmp, "no_service", "services");
    refused("demo/a", "10.96.0.1:80", &[("source", "10.0.0.7")], Dropped, "spoofed_address", "source check");
    refused("demo/a", "10.0.0.3:5", &[("ttl", "1")], Icmp, "ttl_exceeded", "TTL");
    refused("demo/a", "10.0.0.3:5", &[("size", "9000")], Icmp, "too_big", "MTU");
    refused("demo/a", "10.96.0.2:80", &[], Icmp, "no_backend", "endpoint");
    let outside = [("source", "203.0.113.9")];
    refused("port:port-9", "198.51.100.1:80", &outside, Dropped, "source_range", "source ranges");
    refused("port:port-9", "198.51.100.2:80", &outside, Dropped, "no_backend", "endpoint");
    lab.node.end();
}

#[test]
fn a_packet_whose_replies_would_not_find_back_is_refused_as_the_trace_says() {
    let mut lab = Lab::new();
    lab.node.control.remove_port(&name(9)).unwrap();
    let mut narrow = port(9, 1);
    narrow.addresses = vec!["198.51.0.0/16".parse().unwrap()];
    (narrow.spoof_check, narrow.role) = (false, Some(millrace_config::PortRole::Uplink));
    lab.ids[3] = lab.node.control.add_port(narrow).unwrap();
    let trace = lab.ask("port:port-9", "10.0.0.1:5", &[("source", "203.0.113.9")]).unwrap();
    assert_eq!(trace.verdict.reason.as_deref(), Some("no_route"));
    assert_eq!(trace.steps.last().unwrap().asked, "the way back to 203.0.113.9");
    let before = lab.dropped("no_route");
    lab.offer(9, &trace);
    eventually("it is refused", || lab.dropped("no_route") == before + 1);
    let trace = lab.ask("port:port-9", "203.0.113.1:5", &[("source", "198.51.0.9")]).unwrap();
    let last = trace.steps.last().unwrap();
    assert_eq!((last.asked.as_str(), last.answer.as_str()), ("203.0.113.1", "no route"));
    lab.node.end();
}

#[test]
fn a_packet_for_the_node_itself_is_told_so() {
    let lab = Lab::new();
    let ping = lab.ask("demo/a", "169.254.1.1", &[("proto", "icmp")]).unwrap();
    assert_eq!(ping.verdict.outcome, TraceOutcome::Local);
    assert_eq!(ping.verdict.text, "for this node itself: it answers the ping");
    assert_eq!(ping.steps.last().unwrap().answer, "this node itself");
    let ping = lab.ask("demo/a", "fd00::2", &[("proto", "icmp")]).unwrap();
    assert_eq!(ping.verdict.outcome, TraceOutcome::Sent);
    assert_eq!(ping.packet.tuple.to_string(), "icmpv6 fd00::1 -> fd00::2, identifier 40000");
    assert!(
        ping.verdict.text.contains("port port-2 (pod demo/b)") && ping.verdict.text.contains("unchanged")
    );
    lab.node.end();
}

#[test]
fn who_cannot_send_is_refused_by_name() {
    let lab = Lab::new();
    let refused = |from: &str, to: &str, code, part: &str| {
        let error = lab.ask(from, to, &[]).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused("demo/nobody", "10.96.0.1:80", ErrorCode::NotFound, "pod demo/nobody");
    refused("a", "10.96.0.1:80", ErrorCode::NotFound, "pod default/a");
    refused("port:up", "10.96.0.1:80", ErrorCode::NotFound, "port up");
    refused("port:port-9", "10.96.0.1:80", ErrorCode::Invalid, "port port-9 is an uplink");
    lab.node.end();
}

#[test]
fn a_sender_takes_its_own_address_of_the_family_and_its_pods_first() {
    let mut lab = Lab::new();
    let source =
        |lab: &Lab, from: &str, to: &str| lab.ask(from, to, &[]).unwrap().packet.tuple.source.to_string();
    assert_eq!(source(&lab, "port:port-3", "10.0.0.1:5"), "10.0.0.3");
    assert_eq!(source(&lab, "port:port-3", "[fd00::1]:5"), "fd00::3");
    let pod = Pod {
        name: ObjectName::new("demo", "a"),
        labels: Default::default(),
        node: Some("node".into()),
        host_network: false,
        phase: PodPhase::Running,
        ips: vec!["10.0.9.9".parse().unwrap()],
        ports: vec![],
        port: Default::default(),
    };
    lab.node.control.model().apply(Object::Pod(pod));
    lab.node.control.publish();
    assert_eq!(source(&lab, "demo/a", "10.0.0.2:5"), "10.0.9.9");
    assert_eq!(source(&lab, "demo/a", "[fd00::2]:5"), "fd00::1");
    let mut narrow = port(4, 1);
    narrow.addresses = vec!["10.4.0.0/16".parse().unwrap()];
    lab.node.control.add_port(narrow).unwrap();
    let error = lab.ask("port:port-4", "10.0.0.2:5", &[]).unwrap_err();
    assert!(error.to_string().contains("port-4 has no IPv4 address of its own"), "{error}");
    // A second port of a pod, which has the address.
    let mut second = port(5, 1);
    second.pod = Some("demo/a".parse().unwrap());
    lab.node.control.add_port(second).unwrap();
    let trace = lab.ask("demo/a", "10.0.0.2:5", &[("source", "10.0.0.5")]).unwrap();
    assert_eq!(trace.packet.port, "port-5");
    lab.node.control.remove_port(&name(5)).unwrap();
    lab.node.end();
}

#[test]
fn a_bound_client_is_traced_to_its_endpoint() {
    let mut lab = Lab::new();
    let mut sticky = service(SERVICE);
    sticky.affinity_seconds = Some(600);
    lab.node.control.model().apply(Object::Service(sticky));
    lab.node.control.publish();
    let first = lab.ask("demo/a", "10.96.0.1:80", &[]).unwrap();
    let step = first.steps.iter().find(|step| step.stage == "affinity").unwrap();
    assert!(step.answer.contains("none") && step.answer.contains("600 seconds"), "{}", step.answer);
    lab.send(1, &first);
    let chosen = detail(&first, "endpoint", "endpoint").to_owned();
    for source_port in 2000..2010 {
        let trace = lab.ask("demo/a", "10.96.0.1:80", &[("sourcePort", &source_port.to_string())]).unwrap();
        assert_eq!(detail(&trace, "affinity", "endpoint"), chosen);
        assert_eq!(detail(&trace, "endpoint", "endpoint"), chosen);
    }
    lab.node.end();
}
