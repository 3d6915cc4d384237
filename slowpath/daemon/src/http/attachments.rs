//! Attachments: what the CNI plugin asks for.

use super::InPath;
use super::answer::{Answer, Failure, Success};
use super::query;
use crate::control_end::ControlEnd;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use millrace_api::{AttachmentId, AttachmentRequest, ErrorCode, GarbageList, GarbageRequest};
use millrace_control::{AttachError, Departure};
use std::time::{Duration, Instant};
use tokio::task::JoinError;

/// How often, and how many times, one looks whether somebody else has removed what is to be removed.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 2_000;

/// For how long an addition waits for its pod to be known, and how often it is looked.
const POD_PATIENCE: Duration = Duration::from_secs(1);
const POD_LOOK: Duration = Duration::from_millis(10);

pub(super) async fn list(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_attachments()).await?)
}

pub(super) async fn attach(State(control): State<ControlEnd>, body: Result<Bytes, BytesRejection>) -> Answer {
    let request: AttachmentRequest = query::parse_body(body, "a request for an attachment")?;
    await_pod(&control, &request).await?;
    let attached = control.ask(move |control| control.attach(request)).await?;
    Success::with_status(StatusCode::CREATED, attached?)
}

/// Waits until the pod is known whose annotations say how it is to be attached. It is attached without them, if need be.
async fn await_pod(control: &ControlEnd, request: &AttachmentRequest) -> Result<(), Failure> {
    let patience = Instant::now() + POD_PATIENCE;
    loop {
        let wanted = request.clone();
        if Instant::now() >= patience || !control.ask(move |control| control.awaits_pod(&wanted)).await? {
            return Ok(());
        }
        tokio::time::sleep(POD_LOOK).await;
    }
}

pub(super) async fn check(State(control): State<ControlEnd>, names: InPath<(String, String)>) -> Answer {
    let id = id(names)?.map_err(|reason| Failure::new(ErrorCode::NotFound, reason))?;
    Success::of(control.ask(move |control| control.check_attachment(&id)).await??)
}

pub(super) async fn detach(State(control): State<ControlEnd>, names: InPath<(String, String)>) -> Answer {
    // What no attachment can be called is not attached.
    if let Ok(id) = id(names)? {
        remove(control, id).await?;
    }
    Success::nothing()
}

pub(super) async fn collect_garbage(
    State(control): State<ControlEnd>,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let request: GarbageRequest = query::parse_body(body, "a list of valid attachments")?;
    let garbage = control.ask(move |control| control.garbage(&request)).await?;
    let (mut removed, mut outcome) = (Vec::new(), Ok(()));
    // The rest is tried, whatever fails; then the first failure is given.
    for id in garbage {
        match remove(control.clone(), id.clone()).await {
            Ok(()) => removed.push(id),
            Err(failure) => outcome = outcome.and(Err(failure)),
        }
    }
    outcome?;
    Success::of(GarbageList { removed })
}

/// Removes an attachment, to the end also if who asked has hung up. The control thread is free while the kernel takes its time.
async fn remove(control: ControlEnd, id: AttachmentId) -> Result<(), Failure> {
    let removal = tokio::spawn(async move {
        for _ in 0..LOOKS {
            let wanted = id.clone();
            match control.ask(move |control| control.begin_detach(&wanted)).await?? {
                Departure::Done => return Ok(()),
                Departure::Begun(leaving) => {
                    let left = tokio::task::spawn_blocking(move || leaving.clear()).await.map_err(broken)?;
                    return Ok(control.ask(move |control| control.end_detach(left)).await??);
                }
                Departure::UnderWay => tokio::time::sleep(LOOK).await,
            }
        }
        Err(AttachError::Leaving(id).into())
    });
    removal.await.map_err(broken)?
}

fn broken(error: JoinError) -> Failure {
    Failure::new(ErrorCode::Failed, format!("the removal was broken off: {error}"))
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
