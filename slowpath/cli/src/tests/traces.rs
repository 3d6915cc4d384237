use super::*;

const TRACE: &str = r#"{"packet": {"port": "a", "pod": "demo/a", "protocol": "tcp", "source": "10.0.0.1",
    "sourcePort": 40000, "destination": "10.96.0.1", "destinationPort": 80, "defaultSourcePort": true, "size": 60,
    "ttl": 64, "ofALaterVersion": 1},
  "steps": [{"stage": "flow table", "asked": "tcp 10.0.0.1:40000 -> 10.96.0.1:80", "answer": "not known"},
    {"stage": "services", "asked": "tcp 10.96.0.1:80", "answer": "ClusterIP of demo/web:http",
     "details": {"service": "demo/web:http"}}],
  "verdict": {"outcome": "dropped", "text": "dropped in silence: no room", "reason": "flow_table_full"}}"#;

const WORDS: [&str; 7] = ["trace", "--from", "demo/a", "--to", "10.96.0.1:80", "--proto", "tcp"];

#[test]
fn a_trace_is_shown_stage_by_stage_and_a_drop_is_no_failure() {
    let outcome = run_against("200 OK", TRACE, &WORDS);
    assert_eq!(outcome.code, ExitCode::SUCCESS, "{}", outcome.errors);
    assert!(
        outcome.asked.starts_with("GET /v1/trace?from=demo%2Fa&to=10.96.0.1%3A80&proto=tcp HTTP"),
        "{}",
        outcome.asked
    );
    assert_eq!(
        outcome.out,
        "packet: tcp 10.0.0.1:40000 -> 10.96.0.1:80, 60 bytes, TTL 64, by port a (pod demo/a)\n\
         #  STAGE       ASKED                               ANSWER\n\
         1  flow table  tcp 10.0.0.1:40000 -> 10.96.0.1:80  not known\n\
         2  services    tcp 10.96.0.1:80                    ClusterIP of demo/web:http\n\
         verdict: dropped in silence: no room\n"
    );
}

#[test]
fn machines_get_the_parts_of_each_answer() {
    let words: Vec<&str> = WORDS.into_iter().chain(["-o", "json"]).collect();
    let value: serde_json::Value = serde_json::from_str(&run_against("200 OK", TRACE, &words).out).unwrap();
    assert_eq!(value["steps"][1]["details"]["service"], "demo/web:http");
    assert_eq!(
        (&value["packet"]["sourcePort"], &value["verdict"]["outcome"]),
        (&40000.into(), &"dropped".into())
    );
}

#[test]
fn everything_that_is_given_is_asked() {
    let words = [
        "trace",
        "--from",
        "port:up",
        "--to",
        "[fd00::1]:53",
        "--proto",
        "UDP",
        "--source-port",
        "9",
        "--source",
        "2001:db8::1",
        "--size",
        "1400",
        "--ttl",
        "1",
    ];
    let asked = run_against("200 OK", TRACE, &words).asked;
    let query = "from=port%3Aup&to=%5Bfd00%3A%3A1%5D%3A53&proto=udp&sourcePort=9&source=2001%3Adb8%3A%3A1&size=1400&ttl=1 ";
    assert!(asked.contains(query), "{asked}");
}

#[test]
fn an_unknown_pod_ends_with_1() {
    let body = r#"{"error": {"code": "not-found", "message": "no port of this node leads to pod demo/a"}}"#;
    let outcome = run_against("404 Not Found", body, &WORDS);
    assert_eq!(outcome.code, ExitCode::from(1));
    assert_eq!(outcome.errors, "millrace: no port of this node leads to pod demo/a\n");
}

#[test]
fn a_packet_that_cannot_be_is_wrong_usage_and_the_value_is_named() {
    let (code, errors) = run_alone(&["trace", "--from", "a", "--to", "10.0.0.1", "--proto", "tcp"]);
    assert_eq!(code, ExitCode::from(2));
    assert!(errors.contains("`10.0.0.1`") && errors.contains("tcp"), "{errors}");
    for (option, value) in [
        ("--from", "Demo/a"),
        ("--from", "port:a/b"),
        ("--to", "web:80"),
        ("--to", "10.0.0.1:99999"),
        ("--proto", "smoke"),
        ("--source-port", "70000"),
        ("--source", "10.0.0"),
        ("--ttl", "256"),
    ] {
        let mut words = vec!["millrace"];
        words.extend(WORDS);
        match words.iter().position(|&word| word == option) {
            Some(at) => words[at + 1] = value,
            None => words.extend([option, value]),
        }
        let error = Arguments::try_parse_from(words).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(value), "{error}");
    }
}
