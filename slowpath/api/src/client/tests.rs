use super::*;
use crate::{FlowFilter, Protocol};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread;

/// A server for one request: says `answer` in the given pieces, and tells what it was asked.
struct Server {
    _directory: tempfile::TempDir,
    client: Client,
    asked: thread::JoinHandle<String>,
}

fn server(pieces: Vec<Vec<u8>>) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 4096];
        // All requests of these tests arrive in one piece.
        let count = stream.read(&mut chunk).unwrap();
        request.extend_from_slice(&chunk[..count]);
        for piece in pieces {
            // The client may have heard enough.
            if stream.write_all(&piece).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        String::from_utf8(request).unwrap()
    });
    let client = Client::new(socket).with_timeout(Duration::from_secs(5)).with_max_body(1 << 16);
    Server { _directory: directory, client, asked }
}

fn says(answer: &str) -> Server {
    server(vec![answer.as_bytes().to_vec()])
}

fn failure(answer: &str) -> String {
    says(answer).client.get::<Value>("/v1/status").unwrap_err().to_string()
}

#[test]
fn an_answer_with_a_length_is_read() {
    let server = says("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"a\": 1}trailing");
    assert_eq!(server.client.get::<Value>("/v1/status").unwrap(), json!({"a": 1}));
    let asked = server.asked.join().unwrap();
    assert!(asked.starts_with("GET /v1/status HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("Host: "), "{asked}");
}

#[test]
fn an_answer_in_chunks_and_pieces_is_read() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\n[1,\r\n4;x=y\r\n2,3]\r\n0\r\n\r\n";
    for size in [1, 2, 7, 1000] {
        let server = server(answer.as_bytes().chunks(size).map(<[u8]>::to_vec).collect());
        assert_eq!(server.client.get::<Value>("/v1/status").unwrap(), json!([1, 2, 3]), "pieces of {size}");
    }
}

#[test]
fn an_answer_until_the_end_of_the_connection_is_read() {
    assert_eq!(says("HTTP/1.1 200 OK\r\n\r\n[]").client.get::<Value>("/").unwrap(), json!([]));
}

#[test]
fn a_body_is_sent_as_json_with_its_length() {
    let server = says("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}");
    server.client.post::<Value>("/v1/ports", &json!({"name": "a"})).unwrap();
    let asked = server.asked.join().unwrap();
    assert!(asked.starts_with("POST /v1/ports "), "{asked}");
    assert!(asked.contains("Content-Length: 12\r\n") && asked.ends_with("{\"name\":\"a\"}"), "{asked}");
}

#[test]
fn a_deletion_needs_no_body() {
    says("HTTP/1.1 204 No Content\r\n\r\n").client.delete("/v1/ports/a").unwrap();
}

#[test]
fn a_refusal_keeps_its_code_and_message() {
    let body = r#"{"error": {"code": "not-found", "message": "port x: there is none"}}"#;
    let answer = format!("HTTP/1.1 404 Not Found\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    match says(&answer).client.delete("/v1/ports/x").unwrap_err() {
        ClientError::Refused { status: 404, refusal } => {
            assert_eq!(refusal.code, ErrorCode::NotFound);
            assert_eq!(refusal.message, "port x: there is none");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_in_a_foreign_form_is_told_all_the_same() {
    let message = failure("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nw\x1brong");
    assert!(message.contains("502") && message.contains("w ron"), "{message}");
    let message = failure("HTTP/1.1 400 X\r\n\r\n{\"error\": {\"code\": \"new-code\", \"message\": \"m\"}}");
    assert_eq!(message, "m");
}

#[test]
fn nobody_listening_is_told_with_the_socket() {
    let error = Client::new("/nonexistent/x.sock").get::<Value>("/v1/status").unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }));
    assert!(error.to_string().contains("/nonexistent/x.sock"), "{error}");
}

#[test]
fn a_silent_server_is_given_up_after_the_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("api.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let client = Client::new(socket).with_timeout(Duration::from_millis(30));
    let error = client.get::<Value>("/v1/status").unwrap_err();
    assert!(matches!(error, ClientError::Http { source: HttpError::Timeout(_), .. }), "{error}");
}

#[test]
fn answers_that_lie_are_errors() {
    assert!(failure("SSH-2.0-OpenSSH\r\n\r\n").contains("not HTTP"));
    assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}").contains("ended early"));
    assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}").contains("-1"));
    assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}").contains('2'));
    assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n").contains("more than 65536"));
    assert!(
        failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n")
            .contains("more than 65536")
    );
    assert!(failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").contains("size"));
    assert!(failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabcd").contains("size"));
    assert!(failure("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{").contains("cannot be read"));
    assert!(failure(&format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(70_000))).contains("head"));
    assert!(failure(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "y".repeat(70_000))).contains("more than 65536"));
}

#[test]
fn a_filter_becomes_an_escaped_query() {
    assert_eq!(FlowFilter::default().to_path(), "/v1/flows");
    let filter = FlowFilter {
        proto: Some(Protocol::Tcp),
        address: Some("fd00::1".parse().unwrap()),
        service: Some("a/b&c".into()),
        limit: Some(7),
        ..FlowFilter::default()
    };
    assert_eq!(filter.to_path(), "/v1/flows?proto=tcp&address=fd00%3A%3A1&service=a%2Fb%26c&limit=7");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_bytes_are_an_answer_or_an_error(head: bool, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut answer = if head { b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec() } else { vec![] };
        answer.extend(bytes);
        let _ = server(vec![answer]).client.get::<Value>("/v1/status");
    }

    #[test]
    fn a_protocol_reads_back_from_its_name_and_number(number: u8) {
        let protocol = Protocol::from_number(number);
        prop_assert_eq!(protocol.number(), number);
        prop_assert_eq!(protocol.to_string().parse::<Protocol>().unwrap(), protocol);
    }
}
