//! Answers: JSON, whatever becomes of the request.

use crate::control_end::NoAnswer;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use millrace_api::{ErrorBody, ErrorCode};

/// What a handler gives.
pub(super) type Answer = Result<Success, Failure>;

/// A body of JSON, or none.
pub(super) struct Success {
    status: StatusCode,
    body: Option<Vec<u8>>,
}

impl Success {
    /// 200 with a body.
    pub(super) fn of(body: impl serde::Serialize) -> Answer {
        Success::with_status(StatusCode::OK, body)
    }

    /// Another status with a body.
    pub(super) fn with_status(status: StatusCode, body: impl serde::Serialize) -> Answer {
        match serde_json::to_vec(&body) {
            Ok(body) => Ok(Success { status, body: Some(body) }),
            Err(error) => {
                Err(Failure::new(ErrorCode::Failed, format!("the answer has no JSON form: {error}")))
            }
        }
    }

    /// 204.
    pub(super) fn nothing() -> Answer {
        Ok(Success { status: StatusCode::NO_CONTENT, body: None })
    }
}

impl IntoResponse for Success {
    fn into_response(self) -> Response {
        match self.body {
            Some(body) => (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            None => self.status.into_response(),
        }
    }
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Failure(ErrorBody);

impl Failure {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failure(ErrorBody::new(code, message))
    }
}

impl From<NoAnswer> for Failure {
    fn from(reason: NoAnswer) -> Self {
        Failure::new(ErrorCode::Unavailable, reason.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.0.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Two strings: nothing in it can fail to become JSON.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}
