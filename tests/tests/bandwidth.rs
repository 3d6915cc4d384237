//! Limits of pods' rates, with real traffic.
//!
//! ```text
//!   free ════ node ════ limited: ◂ egress 40 Mbit/s, ingress 60 Mbit/s ▸
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{ObjectErrorList, path};
use millrace_tests::{Attached, CniCall, Family, Kind, Load, Network, Pod, eventually};
use serde_json::{Value, json};
use std::time::Duration;

const INGRESS: u64 = 60_000_000;
const EGRESS: u64 = 40_000_000;
const PORT: u16 = 7007;
/// A burst and TCP's slow start are over by then.
const SETTLED: Duration = Duration::from_millis(1_500);
/// What rates are measured over.
const SPAN: Duration = Duration::from_millis(2_500);
/// UDP is sent so many times as fast as it is let through.
const TOO_MUCH: u64 = 2;

/// A call whose container may receive and send so many bits a second, in the words of containerd.
fn limited(call: CniCall) -> CniCall {
    let burst = i32::MAX;
    call.with(json!({"runtimeConfig": {"bandwidth": {
        "ingressRate": INGRESS, "ingressBurst": burst, "egressRate": EGRESS, "egressBurst": burst}}}))
}

/// The sum of what arrives is within 2 % of the limit.
fn assert_rate(what: &str, loads: &[Load], limit: u64) {
    std::thread::sleep(SETTLED);
    let sum: f64 = Load::rates(loads, SPAN).iter().sum();
    let share = sum / limit as f64;
    eprintln!("{what}: {share:.4} of the limit");
    assert!((0.98..=1.02).contains(&share), "{what}: {share:.4} of the limit");
}

fn assert_udp(what: &str, from: &Pod, to: &Pod, family: Family, limit: u64) {
    let load = Load::udp(from, to, family, PORT, limit * TOO_MUCH);
    assert_rate(&format!("{what} UDP {family:?}"), &[load], limit);
}

/// The same for TCP, of which only what is read in order can be counted: what a lost segment holds back comes all at once when
/// it is there, and moves from one span into the next. So it is the median of three.
fn assert_tcp(what: &str, from: &Pod, to: &Pod, family: Family, limit: u64) {
    let load = [Load::tcp(from, to, family, PORT)];
    std::thread::sleep(SETTLED);
    let mut shares: Vec<f64> = (0..3).map(|_| Load::rates(&load, SPAN)[0] / limit as f64).collect();
    eprintln!("{what} TCP {family:?}: {shares:.4?} of the limit");
    shares.sort_by(f64::total_cmp);
    assert!((0.98..=1.02).contains(&shares[1]), "{what} TCP {family:?}: {shares:.4?} of the limit");
}

#[test]
fn a_limit_of_either_direction_is_exact_for_every_kind_of_port() {
    let network = Network::for_plugin(|_| ());
    let daemon = network.daemon();
    let free = Attached::add(daemon, "free", Kind::Tap);
    for kind in Kind::ALL {
        let pod = Attached::add_with(daemon, "limited", kind, limited);
        let (there, here) = (&free.pod, &pod.pod);
        let what = |direction| format!("{kind:?} {direction}");
        let drops = daemon.drops("bandwidth");
        assert_udp(&what("egress"), here, there, Family::V6, EGRESS);
        assert_tcp(&what("egress"), here, there, Family::V4, EGRESS);
        // What a pod is not let send stays with it.
        assert_eq!(daemon.drops("bandwidth"), drops);
        assert_udp(&what("ingress"), there, here, Family::V4, INGRESS);
        let dropped = (daemon.drops("bandwidth") - drops) as f64;
        let beyond = INGRESS as f64 * (SETTLED + SPAN).as_secs_f64() / (1_242.0 * 8.0);
        assert!(
            (0.9..1.2).contains(&(dropped / beyond)),
            "{dropped} frames counted, about {beyond} too many"
        );
        assert_tcp(&what("ingress"), there, here, Family::V6, INGRESS);
        pod.delete();
    }
    free.delete();
    network.stop();
}

#[test]
fn both_directions_at_once_have_their_own_limits_over_all_queues_and_workers() {
    let network = Network::for_plugin(|config| {
        config["workers"]["count"] = json!(2);
        config["cni"]["queues"] = json!(2);
    });
    let daemon = network.daemon();
    let free = Attached::add(daemon, "free", Kind::Tap);
    for kind in [Kind::Tap, Kind::AfXdp] {
        let pod = Attached::add_with(daemon, "limited", kind, limited);
        let (there, here) = (&free.pod, &pod.pod);
        // Flows enough for every queue to have some, each of which would fill the link alone.
        let flows = |from: &Pod, to: &Pod, limit: u64| -> Vec<Load> {
            (0..6).map(|flow| Load::udp(from, to, Family::V4, PORT + flow, limit / 3)).collect()
        };
        let (out, into) = (flows(here, there, EGRESS), flows(there, here, INGRESS));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_rate(&format!("{kind:?} egress"), &out, EGRESS));
            assert_rate(&format!("{kind:?} ingress"), &into, INGRESS);
        });
        drop((out, into));
        pod.delete();
    }
    free.delete();
    network.stop();
}

/// Writes the pod `test/web` with these annotations.
fn annotate(network: &Network, pod: &Pod, annotations: &Value) {
    network.apply(|manifests| {
        manifests.write(
            "pod-web.yaml",
            &[json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "web", "namespace": "test", "annotations": annotations},
                "spec": {"nodeName": Network::node_name(), "containers": []},
                "status": {"phase": "Running", "podIPs": pod.addresses().map(|ip| json!({"ip": ip}))}})],
        );
    });
}

#[test]
fn limits_follow_the_pods_annotations() {
    let network = Network::for_plugin(|_| ());
    let daemon = network.daemon();
    let free = Attached::add(daemon, "free", Kind::AfXdp);
    let web = Attached::add_with(daemon, "web", Kind::Tap, |call| {
        call.variable("CNI_ARGS", "K8S_POD_NAMESPACE=test;K8S_POD_NAME=web;IgnoreUnknown=1")
    });
    let (there, here) = (&free.pod, &web.pod);
    let unlimited = |from: &Pod, to: &Pod| {
        let load = [Load::tcp(from, to, Family::V4, PORT)];
        let rate = Load::rates(&load, Duration::from_secs(1))[0];
        assert!(rate > 4.0 * INGRESS as f64, "{rate} bit/s without a limit");
    };
    unlimited(here, there);
    annotate(&network, here, &json!({"kubernetes.io/egress-bandwidth": "40M"}));
    assert_tcp("annotated egress", here, there, Family::V4, EGRESS);
    unlimited(there, here);
    annotate(
        &network,
        here,
        &json!({"kubernetes.io/egress-bandwidth": "20M", "kubernetes.io/ingress-bandwidth": "0.06G"}),
    );
    assert_tcp("changed egress", here, there, Family::V6, EGRESS / 2);
    assert_udp("new ingress", there, here, Family::V6, INGRESS);
    // One that cannot be read changes nothing, and is reported.
    annotate(&network, here, &json!({"kubernetes.io/egress-bandwidth": "plenty"}));
    eventually("the annotation is reported", Duration::from_secs(10), || {
        let list: ObjectErrorList = daemon.client().get(path::OBJECT_ERRORS).unwrap();
        list.errors.iter().any(|error| error.reason.contains("`plenty`"))
    });
    assert_udp("the same egress", here, there, Family::V4, EGRESS / 2);
    annotate(&network, here, &json!({}));
    std::thread::sleep(SETTLED);
    unlimited(here, there);
    unlimited(there, here);
    web.delete();
    free.delete();
    network.stop();
}
