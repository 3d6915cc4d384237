mod services;
mod traces;
mod ways;

use super::*;
use clap::Parser;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::thread;

struct Outcome {
    code: ExitCode,
    out: String,
    errors: String,
    asked: String,
}

/// Runs a command against a server that gives one answer.
fn run_against(status: &str, body: &str, words: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let count = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..count]).into_owned()
    });
    let socket = socket.to_string_lossy().into_owned();
    let words = ["millrace", "--socket", &socket].into_iter().chain(words.iter().copied());
    let (mut out, mut errors) = (Vec::new(), Vec::new());
    let code = run(&Arguments::try_parse_from(words).unwrap(), &mut out, &mut errors);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome { code, out: text(out), errors: text(errors), asked: server.join().unwrap() }
}

fn run_alone(words: &[&str]) -> (ExitCode, String) {
    let words = ["millrace", "--socket", "/nonexistent/x.sock"].into_iter().chain(words.iter().copied());
    let mut errors = Vec::new();
    let code = run(&Arguments::try_parse_from(words).unwrap(), &mut Vec::new(), &mut errors);
    (code, String::from_utf8(errors).unwrap())
}

const DROPS: &str = r#"{"drops": [{"reason": "no_route", "meaning": "No route.", "frames": 3},
    {"reason": "too_big", "meaning": "Too big.", "frames": 0}]}"#;

#[test]
fn drops_without_a_frame_are_shown_on_demand_only() {
    let outcome = run_against("200 OK", DROPS, &["drops"]);
    assert_eq!(outcome.code, ExitCode::SUCCESS);
    assert_eq!(outcome.out, "REASON    FRAMES  MEANING\nno_route  3       No route.\n");
    assert!(run_against("200 OK", DROPS, &["drops", "--all"]).out.contains("too_big"));
}

#[test]
fn json_is_given_to_machines() {
    let outcome = run_against("200 OK", DROPS, &["drops", "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(value["drops"][0]["frames"], 3);
}

#[test]
fn a_truncated_list_says_so_on_stderr() {
    let outcome =
        run_against("200 OK", r#"{"flows": [], "truncated": true}"#, &["flow", "list", "--proto", "TCP"]);
    assert!(outcome.asked.starts_with("GET /v1/flows?proto=tcp "), "{}", outcome.asked);
    assert!(outcome.errors.contains("--limit"), "{}", outcome.errors);
}

#[test]
fn a_refusal_ends_with_1_and_its_message() {
    let body = r#"{"error": {"code": "not-found", "message": "port x: there is none"}}"#;
    let outcome = run_against("404 Not Found", body, &["port", "del", "x"]);
    assert_eq!(outcome.code, ExitCode::from(1));
    assert_eq!(outcome.errors, "millrace: port x: there is none\n");
    assert!(outcome.asked.starts_with("DELETE /v1/ports/x "), "{}", outcome.asked);
}

#[test]
fn wrong_usage_ends_with_2_and_names_the_value() {
    let (code, errors) =
        run_alone(&["port", "add", "a", "--kind", "tap", "--netns", "a", "--address", "10.0.0.300"]);
    assert_eq!(code, ExitCode::from(2));
    assert!(errors.contains("port a") && errors.contains("10.0.0.300"), "{errors}");
    let (code, errors) =
        run_alone(&["port", "add", "a", "--kind", "tap", "--netns", "a", "--role", "router"]);
    assert_eq!(code, ExitCode::from(2));
    assert!(errors.contains("router") && errors.contains("uplink"), "{errors}");
    let (code, errors) = run_alone(&["port", "add", "a", "--kind", "veth", "--address", "10.0.0.1"]);
    assert_eq!(code, ExitCode::from(2));
    assert!(errors.contains("port a") && errors.contains("netns is missing"), "{errors}");
    assert_eq!(Arguments::try_parse_from(["millrace", "dance"]).unwrap_err().exit_code(), 2);
}

#[test]
fn no_daemon_ends_with_3_and_names_the_socket() {
    let (code, errors) = run_alone(&["status"]);
    assert_eq!(code, ExitCode::from(3));
    assert!(errors.contains("/nonexistent/x.sock"), "{errors}");
}

/// What `port add` sends.
fn sent(words: &[&str]) -> serde_json::Value {
    let words = ["millrace", "port", "add"].iter().chain(words);
    let Command::Port(PortCommand::Add(port)) = Arguments::try_parse_from(words).unwrap().command else {
        panic!("not a port");
    };
    serde_json::to_value(port::config(&port).unwrap()).unwrap()
}

#[test]
fn a_port_is_sent_as_the_configuration_has_it() {
    let guest = sent(&[
        "v",
        "--kind",
        "vhost-user",
        "--pod",
        "ns/v",
        "--role",
        "pod",
        "--vhost-socket",
        "/run/v.sock",
    ]);
    assert_eq!(guest["vhostUser"]["socket"], "/run/v.sock");
    assert_eq!((&guest["pod"], &guest["role"]), (&"ns/v".into(), &"pod".into()));
    let veth = sent(&["w", "--kind", "veth", "--netns", "w", "--pod", "ns/w"]);
    assert_eq!((&veth["kind"], &veth["netns"]), (&"veth".into(), &"w".into()));
    assert_eq!(veth["interface"], "eth0");
}
