//! What kube-proxy tells at its metrics address: in which mode it works, and its metrics.

use super::listen::{self, Guarded};
use axum::Router;
use axum::routing::get;
use std::net::SocketAddr;

/// Connections at a time: those who look at a node are few.
const CONNECTIONS: usize = 64;

/// What `/proxyMode` says. Upstream's test "should check kube-proxy urls" wants an answer; whoever acts on it shall not take us
/// for a mode whose rules it could look for in the kernel.
const MODE: &str = "millrace";

/// Takes the address, now or later, and serves until the runtime ends.
pub(super) async fn serve(address: SocketAddr, metrics: Router) {
    let listener = listen::take(address, "services.statusAddress").await;
    let router = metrics.route("/proxyMode", get(async || MODE));
    // It ends with the runtime only: `axum::serve` survives every error of a connection.
    let _ = axum::serve(Guarded::new(listener, CONNECTIONS), router).await;
}
