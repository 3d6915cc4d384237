//! The names that kube-proxy's dashboards and alerts know (pkg/proxy/metrics/metrics.go of Kubernetes).

use super::families::{Labels, counters, gauges, histograms};
use crate::kube_proxy::ProbeCounts;
use millrace_control::SyncReading;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// Writes them all. Both families are published together: where upstream has one sample for each, there is one for both
/// without the label `ip_family`, so that sums over it stay right.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    sync: &SyncReading,
    probes: &ProbeCounts,
) -> fmt::Result {
    syncs(encoder, sync)?;
    changes(encoder, sync)?;
    endpoints(encoder, sync)?;
    probe(encoder, "kubeproxy_proxy_healthz", "Answers of /healthz, by status.", probes.healthz)?;
    probe(encoder, "kubeproxy_proxy_livez", "Answers of /livez, by status.", probes.livez)
}

fn syncs(encoder: &mut DescriptorEncoder<'_>, sync: &SyncReading) -> fmt::Result {
    let (name, help) =
        ("kubeproxy_sync_proxy_rules_duration_seconds", "Time to compile and publish what changed.");
    histograms(encoder, name, help, [(Labels::new(), &sync.duration)])?;
    let programming = FAMILIES.iter().zip(&sync.programming);
    let programming = programming.map(|(family, histogram)| (vec![("ip_family", *family)], histogram));
    let (name, help) = (
        "kubeproxy_network_programming_duration_seconds",
        "Time from what made an EndpointSlice change until every worker used it.",
    );
    histograms(encoder, name, help, programming)?;
    let (name, help) =
        ("kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When tables were last published.");
    gauges(encoder, name, help, [(Labels::new(), seconds(Some(sync.published)))])?;
    let (name, help) =
        ("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds", "When a change was last handed over.");
    gauges(encoder, name, help, [(Labels::new(), seconds(sync.queued))])
}

fn changes(encoder: &mut DescriptorEncoder<'_>, sync: &SyncReading) -> fmt::Result {
    let plain = |value: u64| [(Labels::new(), value as f64)];
    let (name, help) = ("kubeproxy_sync_proxy_rules_endpoint_changes", "EndpointSlices told by the source.");
    counters(encoder, name, help, plain(sync.seen.slices))?;
    let (name, help) =
        ("kubeproxy_sync_proxy_rules_endpoint_changes_pending", "Changed EndpointSlices not published yet.");
    gauges(encoder, name, help, plain(sync.pending_slices))?;
    let (name, help) = ("kubeproxy_sync_proxy_rules_service_changes", "Services told by the source.");
    counters(encoder, name, help, plain(sync.seen.services))?;
    let (name, help) =
        ("kubeproxy_sync_proxy_rules_service_changes_pending", "Changed Services not published yet.");
    gauges(encoder, name, help, plain(sync.pending_services))
}

fn endpoints(encoder: &mut DescriptorEncoder<'_>, sync: &SyncReading) -> fmt::Result {
    let policies = [("internal", sync.without_local.internal), ("external", sync.without_local.external)];
    let samples = policies.iter().flat_map(|(policy, counts)| {
        FAMILIES.iter().zip(counts).map(move |(family, count)| {
            (vec![("ip_family", *family), ("traffic_policy", *policy)], *count as f64)
        })
    });
    let (name, help) = (
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total",
        "Service ports with a Local policy that have endpoints, but none on this node.",
    );
    gauges(encoder, name, help, samples)
}

fn probe(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, counts: [u64; 2]) -> fmt::Result {
    let samples = ["200", "503"].into_iter().zip(counts);
    counters(encoder, name, help, samples.map(|(code, count)| (vec![("code", code)], count as f64)))
}

/// Seconds since 1970; 0 for what never happened.
fn seconds(time: Option<SystemTime>) -> f64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.unwrap_or_default().as_secs_f64()
}
