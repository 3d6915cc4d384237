//! The admin API over HTTP: paths, and how they are served.

mod answer;
mod attachments;
mod query;
mod socket;

pub(crate) use socket::ApiSocket;

use crate::control_end::ControlEnd;
use answer::{Answer, Failure, Success};
use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use millrace_api::{ErrorCode, PortConfig, path};
use millrace_config::PortName;
use millrace_control::{PortError, TraceError};

/// Bytes of a request's body, at most: a port with all its addresses is a few kilobytes.
const MOST_BYTES: usize = 64 * 1024;

/// What a path names, or that it cannot be read: percent-encoding that is no text.
type InPath<T> = Result<Path<T>, PathRejection>;

/// The API's paths.
pub(crate) fn router(control: ControlEnd) -> Router {
    Router::new()
        .route(path::STATUS, get(status))
        .route(path::PORTS, get(list_ports).post(add_port))
        .route("/v1/ports/{name}", get(show_port).delete(remove_port))
        .route(path::ATTACHMENTS, get(attachments::list).post(attachments::attach))
        .route(path::ATTACHMENTS_GC, post(attachments::collect_garbage))
        .route("/v1/attachments/{container}/{interface}", get(attachments::check).delete(attachments::detach))
        .route(path::SERVICES, get(list_services))
        .route("/v1/services/{namespace}/{name}", get(show_service))
        .route(path::FLOWS, get(list_flows))
        .route(path::TRACE, get(trace))
        .route(path::PEERS, get(list_peers))
        .route(path::ROUTES, get(list_routes))
        .route(path::DROPS, get(drops))
        .route(path::WORKERS, get(workers))
        .route(path::TABLES, get(tables))
        .route(path::OBJECT_ERRORS, get(object_errors))
        .fallback(|| async { Failure::new(ErrorCode::NotFound, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Failure::new(ErrorCode::MethodNotAllowed, "this path knows no such method")
        })
        .layer(DefaultBodyLimit::max(MOST_BYTES))
        .with_state(control)
}

async fn status(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.status()).await?)
}

async fn list_ports(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_ports()).await?)
}

async fn add_port(State(control): State<ControlEnd>, body: Result<Bytes, BytesRejection>) -> Answer {
    let config: PortConfig = query::parse_body(body, "a port")?;
    let name = config.name.clone();
    let added = control.ask(move |control| control.add_port(config).and_then(|_| control.show_port(&name)));
    Success::with_status(StatusCode::CREATED, added.await??)
}

async fn show_port(State(control): State<ControlEnd>, name: InPath<String>) -> Answer {
    let name = port_name(name)?;
    Success::of(control.ask(move |control| control.show_port(&name)).await??)
}

async fn remove_port(State(control): State<ControlEnd>, name: InPath<String>) -> Answer {
    let name = port_name(name)?;
    control.ask(move |control| control.remove_port(&name)).await??;
    Success::nothing()
}

async fn list_services(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_services()).await?)
}

async fn show_service(State(control): State<ControlEnd>, names: InPath<(String, String)>) -> Answer {
    let Path((namespace, name)) = names?;
    let missing = format!("there is no service {namespace}/{name}");
    let found = control.ask(move |control| control.show_service(&namespace, &name)).await?;
    Success::of(found.ok_or_else(|| Failure::new(ErrorCode::NotFound, missing))?)
}

async fn list_flows(State(control): State<ControlEnd>, RawQuery(query): RawQuery) -> Answer {
    let filter = query::parse_flow_filter(query.as_deref())?;
    Success::of(control.ask(move |control| control.list_flows(&filter)).await?)
}

async fn trace(State(control): State<ControlEnd>, RawQuery(query): RawQuery) -> Answer {
    let request = query::parse_trace_request(query.as_deref())?;
    Success::of(control.ask(move |control| control.trace(&request)).await??)
}

async fn list_peers(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_peers()).await?)
}

async fn list_routes(State(control): State<ControlEnd>, RawQuery(query): RawQuery) -> Answer {
    let filter = query::parse_route_filter(query.as_deref())?;
    Success::of(control.ask(move |control| control.list_routes(&filter)).await?)
}

async fn drops(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.drops()).await?)
}

async fn workers(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.list_workers()).await?)
}

async fn tables(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.tables()).await?)
}

async fn object_errors(State(control): State<ControlEnd>) -> Answer {
    Success::of(control.ask(|control| control.object_errors()).await?)
}

/// A name that no port can have names no port.
fn port_name(name: InPath<String>) -> Result<PortName, Failure> {
    let Path(name) = name?;
    name.try_into()
        .map_err(|error| Failure::new(ErrorCode::NotFound, format!("there is no such port: {error}")))
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Failure::new(error.code(), error.to_string())
    }
}

impl From<PathRejection> for Failure {
    fn from(rejection: PathRejection) -> Self {
        Failure::new(ErrorCode::Invalid, rejection.body_text())
    }
}
