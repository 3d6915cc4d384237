use super::*;

const SERVICE: &str = r#"{"namespace": "demo", "name": "web", "type": "LoadBalancer",
  "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "affinitySeconds": 10800,
  "sourceRanges": ["192.0.2.0/24"], "healthCheckNodePort": 31000,
  "ports": [{"name": "http", "protocol": "tcp", "port": 80,
    "frontends": [
      {"kind": "ClusterIP", "address": "10.96.0.1", "port": 80, "usable": 1, "whenEmpty": "reject",
       "inside": {"set": "Cluster", "usable": 1, "whenEmpty": "reject"},
       "outside": {"set": "Cluster", "usable": 1, "whenEmpty": "reject"}},
      {"kind": "LoadBalancer", "address": "203.0.113.1", "port": 80, "usable": 1, "whenEmpty": "reject",
       "inside": {"set": "Cluster", "usable": 1, "whenEmpty": "reject"},
       "outside": {"set": "Local", "usable": 0, "whenEmpty": "drop"},
       "keepsClient": true, "restricted": true, "contestedBy": ["demo/web2"]}],
    "endpoints": [
      {"address": "10.0.0.2", "port": 8080, "usable": true, "conditions": ["ready", "serving"], "node": "n2",
       "zone": "z", "pod": "demo/b", "slice": "demo/web-1",
       "notInLocalSet": {"name": "OtherNode", "text": "it is on node n2"}},
      {"address": "10.0.0.2", "port": 8080, "usable": false, "conditions": [], "slice": "demo/web-2",
       "notInClusterSet": {"name": "DuplicateOf", "text": "it is counted as a mention in slice demo/web-1"},
       "notInLocalSet": {"name": "DuplicateOf", "text": "it is counted as a mention in slice demo/web-1"}}],
    "slices": [{"name": "demo/web-3", "family": "IPv6", "endpoints": 0,
      "unused": {"name": "Empty", "text": "it lists no endpoint"}}],
    "affinity": {"total": 31, "clients": [
      {"client": "192.0.2.7", "endpoint": "10.0.0.2", "endpointPort": 8080, "idleSeconds": 12},
      {"client": "192.0.2.8", "idleSeconds": 13}]}}],
  "flows": {"total": 3, "byState": {"established": 2, "syn-sent": 1}, "flows": [
    {"protocol": "tcp", "source": "192.0.2.7", "sourcePort": 5, "destination": "203.0.113.1", "destinationPort": 80,
     "backend": "10.0.0.2", "backendPort": 8080, "service": "demo/web", "state": "established"}]}}"#;

#[test]
fn a_service_is_explained_with_all_that_is_known_of_it() {
    let outcome = run_against("200 OK", SERVICE, &["service", "show", "demo/web"]);
    assert_eq!(outcome.code, ExitCode::SUCCESS, "{}", outcome.errors);
    assert!(outcome.asked.starts_with("GET /v1/services/demo/web "), "{}", outcome.asked);
    let squeezed: Vec<String> =
        outcome.out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "SERVICE demo/web",
        "type LoadBalancer",
        "external traffic policy Local",
        "session affinity ClientIP for 10800 s",
        "source ranges 192.0.2.0/24",
        "health check node port 31000",
        "PORT http: 80/tcp",
        "10.96.0.1:80 ClusterIP 1 (Cluster) 1 (Cluster) are masqueraded -",
        "203.0.113.1:80 LoadBalancer 1 (Cluster) 0 (Local): dropped keep their address also wanted by demo/web2; source ranges hold",
        "10.0.0.2:8080 yes yes no: it is on node n2 ready,serving n2 z demo/b",
        "slice demo/web-3 (IPv6) is not used: it lists no endpoint",
        "31 bound clients, 2 shown",
        "192.0.2.7 10.0.0.2:8080 12s",
        "192.0.2.8 may not be used any more 13s",
        "3 flows, 1 shown",
        "by state: 2 established, 1 syn-sent",
    ] {
        assert!(squeezed.iter().any(|line| line == expected), "no `{expected}` in\n{}", outcome.out);
    }
}

#[test]
fn a_service_that_is_not_served_is_shown_with_the_reason() {
    let body = r#"{"namespace": "default", "name": "db", "ports": [],
        "notServed": {"name": "Headless", "text": "it is headless: it has no ClusterIP"}}"#;
    let outcome = run_against("200 OK", body, &["service", "show", "db"]);
    assert_eq!(outcome.code, ExitCode::SUCCESS);
    assert!(outcome.asked.starts_with("GET /v1/services/default/db "), "{}", outcome.asked);
    assert_eq!(
        outcome.out,
        "SERVICE          default/db\nnot served here  it is headless: it has no ClusterIP\n"
    );
}

#[test]
fn a_list_has_every_frontend_with_its_kind_and_each_endpoint_counted_once() {
    let body = format!(r#"{{"services": [{SERVICE}]}}"#);
    let outcome = run_against("200 OK", &body, &["service", "list"]);
    let lines: Vec<Vec<&str>> = outcome
        .out
        .lines()
        .map(|line| line.split("  ").filter(|cell| !cell.is_empty()).map(str::trim).collect())
        .collect();
    assert_eq!(lines[1][4..], ["10.96.0.1:80", "ClusterIP", "1 of 1", "1 of 1"]);
    assert_eq!(lines[2][4..], ["203.0.113.1:80", "LoadBalancer", "1 of 1", "0 of 1, drops"]);
}

#[test]
fn the_answer_of_an_older_daemon_can_be_shown() {
    let body = r#"{"services": [{"namespace": "a", "name": "b", "ports": [{"name": "", "protocol": "udp",
        "frontends": [{"kind": "ClusterIP", "address": "fd00::1", "port": 53, "usable": 0, "whenEmpty": "drop"}],
        "endpoints": []}]}]}"#;
    let outcome = run_against("200 OK", body, &["service", "list"]);
    assert!(outcome.out.contains("[fd00::1]:53") && outcome.out.contains("0 of 0, drops"), "{}", outcome.out);
}

#[test]
fn what_is_no_name_is_wrong_usage_and_named() {
    for bad in ["", "/", "a/", "a/b/c", "../x"] {
        let error = Arguments::try_parse_from(["millrace", "service", "show", bad]).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("`{bad}`")) || bad.is_empty(), "{error}");
    }
}
