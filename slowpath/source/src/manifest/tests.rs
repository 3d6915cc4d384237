use super::*;
use millrace_model::{Kind, PodPhase, TrafficPolicy};
use proptest::prelude::*;
use std::time::{Duration, UNIX_EPOCH};

fn one(text: &str) -> Object {
    let mut parsed = parse(text).unwrap();
    assert!(parsed.rejected.is_empty(), "{:?}", parsed.rejected);
    assert_eq!(parsed.objects.len(), 1);
    parsed.objects.remove(0).1
}

/// The reason for the refusal of the only document.
fn refused(text: &str) -> String {
    let parsed = parse(text).unwrap();
    assert!(parsed.objects.is_empty());
    parsed.rejected[0].error.to_string()
}

fn service(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {{{spec}}}}}")
}

fn slice(rest: &str) -> String {
    format!("{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: e}}, {rest}}}")
}

#[test]
fn the_demo_manifests_are_all_used() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/samples/demo/manifests");
    let mut kinds = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let parsed = parse(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        assert!(parsed.rejected.is_empty(), "{:?}", parsed.rejected);
        for (_, object) in parsed.objects {
            *kinds.entry(object.kind()).or_insert(0) += 1;
        }
    }
    let expected =
        [(Kind::Pod, 5), (Kind::Service, 2), (Kind::EndpointSlice, 4), (Kind::Node, 1), (Kind::Namespace, 1)];
    assert_eq!(kinds, expected.into());
}

#[test]
fn several_documents_lists_and_json_are_read() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\n\
        {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Namespace, metadata: {name: b}}]}\n";
    let parsed = parse(text).unwrap();
    let names: Vec<_> =
        parsed.objects.iter().map(|(at, object)| (*at, object.name().name.as_str())).collect();
    assert_eq!(names, [(0, "a"), (1, "b")]);
    one(r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "c"}}"#);
    assert!(parse("").unwrap().objects.is_empty());
}

#[test]
fn absent_fields_mean_what_upstream_says() {
    let Object::Service(found) =
        one(&service("clusterIP: 10.96.0.1, sessionAffinity: ClientIP, ports: [{port: 80}]"))
    else {
        panic!("not a service")
    };
    assert_eq!((found.name.namespace.as_str(), found.cluster_ips.len()), ("default", 1));
    assert_eq!((found.affinity_seconds, found.internal_policy), (Some(10_800), TrafficPolicy::Cluster));
    assert!(!matches!(one(&service("clusterIP: None")), Object::Service(found) if found.is_served()));
    let Object::EndpointSlice(found) = one(&slice(
        "addressType: IPv4, endpoints: [{addresses: [10.0.0.1, 10.0.0.2]}], ports: [{port: 1}, {name: x}]",
    )) else {
        panic!("not a slice")
    };
    assert!(found.endpoints[0].conditions.ready && found.endpoints[0].conditions.serving);
    assert_eq!((found.endpoints.len(), found.ports.len()), (1, 1));
    let Object::Pod(found) =
        one("{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {podIP: 10.0.0.1}}")
    else {
        panic!("not a pod")
    };
    assert_eq!((found.ips.len(), found.phase), (1, PodPhase::Pending));
}

#[test]
fn a_bad_object_is_named_with_field_and_value_and_the_rest_goes_on() {
    let text = format!("{}\n---\n{}", service("clusterIP: 10.96.0.300"), service("clusterIP: 10.96.0.3"));
    let parsed = parse(&text).unwrap();
    assert_eq!(parsed.objects.len(), 1);
    assert_eq!(parsed.rejected[0].object.as_deref(), Some("Service s"));
    assert_eq!(
        parsed.rejected[0].error.to_string(),
        "spec.clusterIPs[0]: `10.96.0.300` is not an IP address"
    );
}

/// As upstream's test "IPv4 Service Type ClusterIP with leading zeros should work interpreted as decimal" wants it.
#[test]
fn zeros_before_the_numbers_of_an_address_mean_nothing() {
    let Object::Service(found) = one(&service(
        "clusterIP: 10.096.0.011, loadBalancerSourceRanges: [' 010.0.0.0/8', '0.0.0.0/0', 'fd00::/8']",
    )) else {
        panic!("not a service")
    };
    assert_eq!(found.cluster_ips, ["10.96.0.11".parse::<std::net::IpAddr>().unwrap()]);
    let ranges: Vec<String> = found.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"]);
    for bad in ["10.96.0", "10.96.0.1.1", "10.96.0.0256", "10.96..1", "10.96.0.+1", "0x0a.96.0.1"] {
        assert!(refused(&service(&format!("clusterIP: '{bad}'"))).contains(bad));
    }
    for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0/8"] {
        assert!(refused(&service(&format!("loadBalancerSourceRanges: ['{bad}']"))).contains(bad));
    }
}

#[test]
fn illegal_values_are_refused() {
    assert!(refused(&service("ports: [{port: 0}]")).contains("spec.ports[0].port: `0`"));
    assert!(refused(&service("ports: [{port: 70000}]")).contains("70000"));
    assert!(refused(&service("ports: [{port: eighty}]")).contains("spec.ports[0].port"));
    assert!(refused(&service("ports: [{port: 1}, {port: 1}]")).contains("spec.ports[1].port"));
    assert!(refused(&service("ports: [{port: 1, protocol: ICMP}]")).contains("ICMP"));
    assert!(refused(&service("clusterIPs: [10.0.0.1, 10.0.0.2]")).contains("10.0.0.2"));
    assert!(refused(&service("clusterIP: '::ffff:10.0.0.1'")).contains("::ffff:10.0.0.1"));
    assert!(refused(&service("internalTrafficPolicy: Near")).contains("Near"));
    assert!(refused(&slice("addressType: FQDN, endpoints: []")).contains("FQDN"));
    assert!(refused(&slice("addressType: IPv4, endpoints: [{addresses: ['fd00::1']}]")).contains("fd00::1"));
    assert!(
        refused(&slice("addressType: IPv4, endpoints: [{addresses: []}]")).contains("endpoints[0].addresses")
    );
    assert!(refused("{apiVersion: v1, kind: Pod, metadata: {name: 'a/b'}}").contains("a/b"));
    assert!(refused("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}").contains("Deployment"));
    assert!(refused("just text").contains("apiVersion"));
    assert!(parse("a: [").is_err());
}

#[test]
fn the_time_of_a_change_is_read_and_a_bad_one_ignored() {
    let at = |time: &str| {
        let annotation =
            format!("annotations: {{endpoints.kubernetes.io/last-change-trigger-time: '{time}'}}");
        let text =
            slice("addressType: IPv4, endpoints: []").replace("name: e", &format!("name: e, {annotation}"));
        let Object::EndpointSlice(found) = one(&text) else { panic!("not a slice") };
        found.trigger_time
    };
    let noon = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(at("2023-11-14T22:13:20Z"), Some(noon));
    assert_eq!(at("2023-11-14T23:13:20.123456789+01:00"), Some(noon + Duration::from_nanos(123_456_789)));
    for bad in ["", "now", "1700000000", "2023-11-14", "2023-13-14T22:13:20Z"] {
        assert_eq!(at(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-zA-Z0-9:{}\\[\\],\\-\n#&*!|>\"' ]{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_spec_is_read_or_refused(field in "[a-zA-Z]{1,12}", value in "[a-z0-9:./\\[\\]{}-]{0,20}") {
        let _ = parse(&service(&format!("{field}: {value}")));
        let _ = parse(&slice(&format!("{field}: {value}")));
    }
}

fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p}}, spec: {{{spec}}}}}"
    )
}

fn read_policy(spec: &str) -> millrace_model::NetworkPolicy {
    let Object::NetworkPolicy(found) = one(&policy(spec)) else { panic!("not a policy") };
    found
}

#[test]
fn a_policy_speaks_of_the_directions_that_upstream_says() {
    let directions = |spec: &str| {
        let found = read_policy(spec);
        [found.ingress.map(|rules| rules.len()), found.egress.map(|rules| rules.len())]
    };
    assert_eq!(directions("podSelector: {}"), [Some(0), None]);
    assert_eq!(directions("podSelector: {}, egress: [{}]"), [Some(0), Some(1)]);
    assert_eq!(directions("podSelector: {}, policyTypes: [Egress], ingress: [{}]"), [None, Some(0)]);
    assert_eq!(directions("podSelector: {}, policyTypes: [Ingress, Egress]"), [Some(0), Some(0)]);
}

#[test]
fn peers_ports_and_selectors_of_a_policy_are_read() {
    use millrace_model::{LabelTest, PolicyNumbers, PolicyPeer, Transport};
    let found = read_policy(
        "podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [a, b]}]}, \
         ingress: [{from: [{namespaceSelector: {}}, {podSelector: {}, namespaceSelector: {}}, \
         {ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], \
         ports: [{port: 80}, {port: 8000, endPort: 8080, protocol: UDP}, {port: http}, {protocol: SCTP}]}]",
    );
    assert_eq!(found.name.to_string(), "default/p");
    assert_eq!(found.pods.0[0].test, LabelTest::In([Box::from("web")].into()));
    assert!(matches!(&found.pods.0[1].test, LabelTest::NotIn(values) if values.len() == 2));
    let rule = &found.ingress.unwrap()[0];
    assert!(matches!(&rule.peers[0], PolicyPeer::Pods { namespaces: Some(_), pods: None }));
    assert!(matches!(&rule.peers[1], PolicyPeer::Pods { namespaces: Some(_), pods: Some(_) }));
    assert!(matches!(&rule.peers[2], PolicyPeer::Range { except, .. } if except.len() == 1));
    let ports: Vec<_> = rule.ports.iter().map(|port| (port.protocol, port.numbers.clone())).collect();
    assert_eq!(
        ports,
        [
            (Transport::Tcp, PolicyNumbers::Range(80, 80)),
            (Transport::Udp, PolicyNumbers::Range(8000, 8080)),
            (Transport::Tcp, PolicyNumbers::Named("http".into())),
            (Transport::Sctp, PolicyNumbers::All),
        ]
    );
}

#[test]
fn a_policy_with_an_illegal_field_is_refused_with_field_and_value() {
    for (spec, field, value) in [
        ("policyTypes: [Sideways]", "spec.policyTypes[0]", "Sideways"),
        ("ingress: [{from: [{}]}]", "spec.ingress[0].from[0]", "{}"),
        ("egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]", "to[0].ipBlock", "10.0.0.0/8"),
        ("egress: [{to: [{ipBlock: {cidr: 10.0.0.0}}]}]", "spec.egress[0].to[0].ipBlock.cidr", "10.0.0.0"),
        (
            "egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/9]}}]}]",
            "ipBlock.except[0]",
            "11.0.0.0/9",
        ),
        ("ingress: [{ports: [{port: 0}]}]", "spec.ingress[0].ports[0].port", "0"),
        ("ingress: [{ports: [{port: 80, endPort: 79}]}]", "ports[0].endPort", "79"),
        ("ingress: [{ports: [{port: http, endPort: 90}]}]", "ports[0].endPort", "90"),
        ("ingress: [{ports: [{port: UPPER}]}]", "ports[0].port", "UPPER"),
        ("ingress: [{ports: [{protocol: ICMP}]}]", "ports[0].protocol", "ICMP"),
        ("podSelector: {matchExpressions: [{key: a, operator: Is}]}", "matchExpressions[0].operator", "Is"),
        ("podSelector: {matchExpressions: [{key: a, operator: In}]}", "matchExpressions[0].values", "[]"),
        ("podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}", "[0].values", "x"),
    ] {
        let reason = refused(&policy(spec));
        assert!(reason.contains(field) && reason.contains(&format!("`{value}`")), "{spec}: {reason}");
    }
}
