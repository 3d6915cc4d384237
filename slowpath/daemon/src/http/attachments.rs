//! Attachments: what the CNI plugin asks for.

use super::InPath;
use super::answer::{Answer, Failure, Success};
use super::query;
use crate::control_end::ControlEnd;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millrace_api::{AttachmentId, AttachmentRequest, ErrorCode, GarbageRequest};
use millrace_control::AttachError;

pub(super) async fn list(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_attachments()).await?)
}

pub(super) async fn attach(State(control): State<ControlEnd>, body: Result<Bytes, BytesRejection>) -> Answer {
    let request: AttachmentRequest = query::parse_body(body, "a request for an attachment")?;
    let attached = control.ask(move |control| control.attach(request)).await?;
    Success::with_status(StatusCode::CREATED, attached?)
}

pub(super) async fn check(State(control): State<ControlEnd>, names: InPath<(String, String)>) -> Answer {
    let id = id(names)?.map_err(|reason| Failure::new(ErrorCode::NotFound, reason))?;
    Success::of(control.ask(move |control| control.check_attachment(&id)).await??)
}

pub(super) async fn detach(State(control): State<ControlEnd>, names: InPath<(String, String)>) -> Answer {
    // What no attachment can be called is not attached.
    if let Ok(id) = id(names)? {
        control.ask(move |control| control.detach(&id)).await??;
    }
    Success::nothing()
}

pub(super) async fn collect_garbage(
    State(control): State<ControlEnd>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let request: GarbageRequest = query::parse_body(body, "a list of valid attachments")?;
    Success::of(control.ask(move |control| control.collect_garbage(&request)).await??)
}

fn id(names: InPath<(String, String)>) -> Result<Result<AttachmentId, String>, Failure> {
    let Path((container, interface)) = names?;
    let container_id = container.parse().map_err(|error| format!("there is no such attachment: {error}"));
    let if_name = interface.parse().map_err(|error| format!("there is no such attachment: {error}"));
    Ok(container_id.and_then(|container_id| Ok(AttachmentId { container_id, if_name: if_name? })))
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}
