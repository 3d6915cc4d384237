//! What requests say: bodies and queries become types or a refusal that names what is wrong.

use super::answer::Failure;
use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, Uri};
use millrace_api::{ErrorCode, FlowFilter, RouteFilter, TraceRequest};
use serde::de::DeserializeOwned;

/// A body of JSON; `what` says what it is to be.
pub(super) fn parse_body<T: DeserializeOwned>(
    body: Result<Bytes, BytesRejection>,
    what: &str,
) -> Result<T, Failure> {
    let bytes = body.map_err(|rejection| {
        let code = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::TooLarge,
            _ => ErrorCode::Invalid,
        };
        Failure::new(code, rejection.body_text())
    })?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(ErrorCode::Invalid, format!("the body is not {what}: {error}")))
}

pub(super) fn parse_flow_filter(query: Option<&str>) -> Result<FlowFilter, Failure> {
    parse_query(query, "filter")
}

pub(super) fn parse_route_filter(query: Option<&str>) -> Result<RouteFilter, Failure> {
    parse_query(query, "filter of routes")
}

pub(super) fn parse_trace_request(query: Option<&str>) -> Result<TraceRequest, Failure> {
    parse_query(query, "packet to be traced")
}

fn parse_query<T: DeserializeOwned>(query: Option<&str>, what: &str) -> Result<T, Failure> {
    let refuse =
        |reason: String| Failure::new(ErrorCode::Invalid, format!("the query is no {what}: {reason}"));
    let uri: Uri = format!("/?{}", query.unwrap_or_default())
        .parse()
        .map_err(|error: axum::http::uri::InvalidUri| refuse(error.to_string()))?;
    let Query(parsed) = Query::try_from_uri(&uri).map_err(|rejection| refuse(rejection.body_text()))?;
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_back_from_the_path_that_the_client_makes() {
        let filter = FlowFilter {
            address: Some("fd00::1".parse().unwrap()),
            port: Some(80),
            service: Some("default/web".to_owned()),
            proto: Some("tcp".parse().unwrap()),
            limit: Some(7),
            ..FlowFilter::default()
        };
        let path = filter.to_path();
        let query = path.split_once('?').map(|(_, query)| query);
        assert_eq!(parse_flow_filter(query).unwrap(), filter);
        assert_eq!(parse_flow_filter(None).unwrap(), FlowFilter::default());
    }

    #[test]
    fn a_filter_with_an_unknown_field_or_a_bad_value_is_refused() {
        for query in ["colour=red", "port=70000", "port=", "proto=carrier-pigeon", "address=1.2.3", "%ff=%zz"]
        {
            assert!(parse_flow_filter(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn a_packet_to_be_traced_is_read_back_from_the_path_that_the_client_makes() {
        let request = TraceRequest {
            from: "port:up.1".parse().unwrap(),
            to: "[fd00::1]:80".parse().unwrap(),
            proto: "tcp".parse().unwrap(),
            source_port: Some(1234),
            source: Some("2001:db8::7".parse().unwrap()),
            size: Some(1500),
            ttl: Some(3),
        };
        let path = request.to_path();
        let query = path.split_once('?').map(|(_, query)| query);
        assert_eq!(parse_trace_request(query).unwrap(), request);
    }

    #[test]
    fn a_packet_that_cannot_be_is_refused_by_the_offending_value() {
        let message = |query: &str| format!("{:?}", parse_trace_request(Some(query)).unwrap_err());
        for (query, value) in [
            ("from=a&to=10.0.0.1:80", "proto"),
            ("from=a&to=10.0.0.1&proto=tcp", "10.0.0.1"),
            ("from=A&to=10.0.0.1:80&proto=tcp", "`A`"),
            ("from=a&to=web:80&proto=tcp", "web:80"),
            ("from=a&to=10.0.0.1:80&proto=smoke", "smoke"),
            ("from=a&to=10.0.0.1:80&proto=tcp&colour=red", "colour"),
            ("from=a&to=10.0.0.1:80&proto=tcp&size=7", "size 7"),
        ] {
            assert!(message(query).contains(value), "{query}: {}", message(query));
        }
        assert!(parse_trace_request(None).is_err());
    }
}
