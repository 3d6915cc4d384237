//! kube-proxy's own health: `/healthz` and `/livez`.
//!
//! Both say whether changes reach the workers. `/healthz` is for load balancers and also says no while this node is about
//! to go; `/livez` is for whoever restarts what hangs (pkg/proxy/healthcheck/proxy_health.go).

use super::answer::{json, rfc3339};
use super::listen::{self, Guarded};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use millrace_control::{Progress, ProxyHealth};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

/// Connections at a time: those who probe a node are few.
const CONNECTIONS: usize = 64;

/// How often each path was asked, by answer. Clones count together.
#[derive(Clone, Default, Debug)]
pub(crate) struct Probes {
    healthz: Arc<Answers>,
    livez: Arc<Answers>,
}

/// Answers of one path.
#[derive(Default, Debug)]
struct Answers {
    well: AtomicU64,
    ill: AtomicU64,
}

/// Answers at one moment: each path's `[200, 503]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ProbeCounts {
    pub(crate) healthz: [u64; 2],
    pub(crate) livez: [u64; 2],
}

impl Probes {
    pub(crate) fn counts(&self) -> ProbeCounts {
        ProbeCounts { healthz: self.healthz.read(), livez: self.livez.read() }
    }
}

impl Answers {
    fn count(&self, is_well: bool) {
        let counter = if is_well { &self.well } else { &self.ill };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> [u64; 2] {
        [self.well.load(Ordering::Relaxed), self.ill.load(Ordering::Relaxed)]
    }
}

/// The body of both paths.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: Families,
}

/// Both families are published together.
#[derive(Serialize)]
struct Families {
    #[serde(rename = "IPv4")]
    v4: Family,
    #[serde(rename = "IPv6")]
    v6: Family,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Family {
    last_updated: String,
    healthy: bool,
}

impl Body {
    /// As upstream does it, a healthy proxy was updated just now, whenever the cluster changed last.
    fn new(health: ProxyHealth, is_well: bool, node_eligible: Option<bool>, now: SystemTime) -> Self {
        let published = rfc3339(health.published);
        let family = Family { last_updated: published.clone(), healthy: health.healthy };
        Body {
            last_updated: if is_well { rfc3339(now) } else { published },
            current_time: rfc3339(now),
            node_eligible,
            healthy: health.healthy,
            status: Families { v4: family.clone(), v6: family },
        }
    }
}

/// Takes the address, now or later, and serves until the runtime ends.
pub(super) async fn serve(address: SocketAddr, progress: Progress, probes: Probes) {
    let listener = listen::take(address, "services.healthAddress").await;
    tracing::info!(%address, "serving kube-proxy's health");
    // It ends with the runtime only: `axum::serve` survives every error of a connection.
    let _ = axum::serve(Guarded::new(listener, CONNECTIONS), router(progress, probes)).await;
}

fn router(progress: Progress, probes: Probes) -> Router {
    Router::new().route("/healthz", any(healthz)).route("/livez", any(livez)).with_state((progress, probes))
}

async fn healthz(State((progress, probes)): State<(Progress, Probes)>) -> Response {
    let health = progress.health(Instant::now());
    let is_well = health.healthy && health.eligible;
    probes.healthz.count(is_well);
    json(is_well, &Body::new(health, is_well, Some(health.eligible), SystemTime::now()))
}

async fn livez(State((progress, probes)): State<(Progress, Probes)>) -> Response {
    let health = progress.health(Instant::now());
    probes.livez.count(health.healthy);
    json(health.healthy, &Body::new(health, health.healthy, None, SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::{Duration, UNIX_EPOCH};

    fn body(healthy: bool, is_well: bool, eligible: Option<bool>) -> Value {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let health = ProxyHealth { healthy, eligible: true, published: at(1_000) };
        serde_json::to_value(Body::new(health, is_well, eligible, at(2_000))).unwrap()
    }

    #[test]
    fn the_body_has_the_fields_of_kube_proxy() {
        let (then, now) = ("1970-01-01T00:16:40Z", "1970-01-01T00:33:20Z");
        let family = |healthy: bool| json!({ "lastUpdated": then, "healthy": healthy });
        let expected = json!({
            "lastUpdated": now, "currentTime": now, "nodeEligible": true, "healthy": true,
            "status": { "IPv4": family(true), "IPv6": family(true) },
        });
        assert_eq!(body(true, true, Some(true)), expected);
        let expected = json!({
            "lastUpdated": then, "currentTime": now, "healthy": false,
            "status": { "IPv4": family(false), "IPv6": family(false) },
        });
        assert_eq!(body(false, false, None), expected);
    }
}
