//! Answers of kube-proxy's form.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many local endpoints there are, for load balancers that weigh nodes by it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// 200 or 503, with a body of JSON that no browser takes for anything else.
pub(super) fn json(is_well: bool, body: &impl Serialize) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    // Names, numbers and times: nothing in it can fail to become JSON.
    (status, headers, serde_json::to_vec(body).unwrap_or_default()).into_response()
}

/// The same with a weight.
pub(super) fn weighed(is_well: bool, body: &impl Serialize, weight: usize) -> Response {
    let mut response = json(is_well, body);
    response.headers_mut().insert(WEIGHT, HeaderValue::from(weight));
    response
}

/// A time as RFC 3339 has it, with nanoseconds, in UTC.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let time = Timestamp::new(seconds, since.subsec_nanos() as i32).unwrap_or(Timestamp::MAX);
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_time_is_written_as_rfc_3339_has_it() {
        let at = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
        assert_eq!(rfc3339(at(1_700_000_000_123_456_789)), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
    }
}
