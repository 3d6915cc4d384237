//! Questions about services and packets, over the API.

use crate::daemon::{Daemon, Place, namespaces_possible};
use crate::port;
use millrace_api::{ClientError, ErrorCode, Port, Service, Trace, TraceOutcome, TraceRequest, path};
use serde_json::{Value, json};

/// A ClusterIP service with an endpoint on port `b`, and a headless one.
fn objects() -> [Value; 3] {
    let metadata = |name: &str| json!({ "name": name, "namespace": "demo" });
    let service = |name: &str, ip: &str| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata(name),
            "spec": { "clusterIP": ip, "ports": [{ "name": "http", "port": 80 }] } })
    };
    let slice = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "web-1", "namespace": "demo", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4", "ports": [{ "name": "http", "port": 8080 }],
        "endpoints": [{ "addresses": ["10.1.0.2"] }] });
    [service("web", "10.96.0.1"), service("db", "None"), slice]
}

#[test]
fn a_packet_is_traced_and_a_service_explained_without_a_frame_being_sent() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    for (number, object) in objects().iter().enumerate() {
        std::fs::write(place.path("manifests").join(format!("{number}.json")), object.to_string()).unwrap();
    }
    let mut daemon = Daemon::start(&place);
    let client = daemon.client();
    for (name, address) in [("a", "10.1.0.1"), ("b", "10.1.0.2")] {
        place.add_pod(name);
        let config = json!({ "name": name, "kind": "tap", "netns": place.pod(name), "addresses": [address] });
        client.post::<Port>(path::PORTS, &port(config)).unwrap();
    }

    let request = |from: &str, to: &str| -> TraceRequest {
        serde_json::from_value(json!({ "from": from, "to": to, "proto": "tcp" })).unwrap()
    };
    let trace: Trace = client.get(&request("port:a", "10.96.0.1:80").to_path()).unwrap();
    assert_eq!((trace.verdict.outcome, trace.verdict.port.as_deref()), (TraceOutcome::Sent, Some("b")));
    assert_eq!(trace.verdict.leaves_as.unwrap().to_string(), "tcp 10.1.0.1:40000 -> 10.1.0.2:8080");
    let services = trace.steps.iter().find(|step| step.stage == "services").unwrap();
    assert_eq!(services.details["service"], "demo/web:http");

    let refused = |path: &str, code: ErrorCode, part: &str| match client.get::<Trace>(path) {
        Err(ClientError::Refused { status, refusal }) => {
            assert_eq!((status, refusal.code), (code.status(), code));
            assert!(refusal.message.contains(part), "{}", refusal.message);
        }
        other => panic!("{other:?}"),
    };
    refused(&request("demo/c", "10.96.0.1:80").to_path(), ErrorCode::NotFound, "demo/c");
    refused("/v1/trace?from=a&to=10.96.0.1&proto=tcp", ErrorCode::Invalid, "`10.96.0.1`");
    refused("/v1/trace", ErrorCode::Invalid, "from");
    refused("/v1/services/demo/none", ErrorCode::NotFound, "demo/none");

    let web: Service = client.get(&path::service("demo", "web")).unwrap();
    assert_eq!(web.ports[0].frontends[0].kind, "ClusterIP");
    assert_eq!(web.ports[0].endpoints[0].not_in_local_set.as_ref().unwrap().name, "OtherNode");
    assert_eq!(web.flows.unwrap().total, 0, "a trace makes no flow");
    let db: Service = client.get(&path::service("demo", "db")).unwrap();
    assert_eq!(db.not_served.unwrap().name, "Headless");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
