//! Metrics and health over HTTP.

mod collector;
mod families;
mod kube_proxy;

use crate::StartError;
use crate::control_end::ControlEnd;
use crate::kube_proxy::Probes;
use crate::readiness::Readiness;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use collector::Reading;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;
use tokio::time::timeout;

/// How long the control thread may take before the daemon counts as ill. Adding a port takes milliseconds; a worker that
/// hangs is given up on after five seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// Media type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Sources {
    control: ControlEnd,
    readiness: Readiness,
    probes: Probes,
}

/// Takes the address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Metrics { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// `/metrics`, `/healthz` and `/readyz`.
pub(crate) fn router(control: ControlEnd, readiness: Readiness, probes: Probes) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(Sources { control, readiness, probes })
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let probes = sources.probes.counts();
    let taken = sources.control.ask(move |control| Reading::take(control, probes));
    let reading = match timeout(PATIENCE, taken).await {
        Ok(Ok(reading)) => reading,
        Ok(Err(reason)) => return (StatusCode::SERVICE_UNAVAILABLE, reason.to_string()).into_response(),
        Err(_) => {
            return (StatusCode::SERVICE_UNAVAILABLE, "the control thread does not answer").into_response();
        }
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(reading));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Whether the control thread does its work.
async fn healthz(State(sources): State<Sources>) -> (StatusCode, &'static str) {
    match timeout(PATIENCE, sources.control.ask(|_| ())).await {
        Ok(Ok(())) => (StatusCode::OK, "ok"),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "the control thread does not answer"),
    }
}

/// Whether the source's objects are in the tables and the configured ports have been opened.
async fn readyz(State(sources): State<Sources>) -> (StatusCode, &'static str) {
    match sources.readiness.is_set() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    }
}
