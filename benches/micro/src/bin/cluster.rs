//! Prints what a large cluster costs the control thread, as JSON: loading it, keeping it, and one change of it until a
//! worker's first burst with the new tables.
//!
//! 10,000 services, NodePorts among them, with 10 endpoints each.

use millrace_fastpath::sync::{Domain, Snapshot};
use millrace_fastpath::tables::{Gateway, TableSet};
use millrace_fastpath::wire::MacAddr;
use millrace_model::{
    AddressFamily, Conditions, Endpoint, EndpointSlice, Kind, Model, ModelConfig, Object, ObjectName,
    Service, ServicePort, ServiceType, SlicePort, TrafficPolicy, Transport,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
const CHANGES: u32 = 2_000;

fn main() {
    let gateway = Gateway {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ipv4: Ipv4Addr::new(169, 254, 1, 1),
        ipv6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    };
    let before = resident_kibibytes();
    let mut model = Model::new(ModelConfig::new("node-1", gateway));
    let begin = Instant::now();
    model.reset(Kind::Service, (0..SERVICES).map(|number| Object::Service(service(number))).collect());
    let slices = (0..SERVICES).map(|number| Object::EndpointSlice(slice(number, ENDPOINTS)));
    model.reset(Kind::EndpointSlice, slices.collect());
    let applied = begin.elapsed();
    let tables = model.compile();
    let loaded = begin.elapsed();
    let after = resident_kibibytes();

    let latencies = change_by_change(&mut model, tables);
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    let line = serde_json::json!({
        "services": SERVICES, "endpoints": SERVICES * ENDPOINTS,
        "apply_millis": applied.as_millis() as u64, "load_millis": loaded.as_millis() as u64,
        "resident_mebibytes": after.saturating_sub(before) / 1024,
        "change_micros_p50": at(0.5), "change_micros_p99": at(0.99), "change_micros_max": at(1.0),
    });
    println!("{line}");
}

/// Nanoseconds from the arrival of a change until a worker has read the tables with it, sorted.
fn change_by_change(model: &mut Model, tables: TableSet) -> Vec<u64> {
    let domain = Domain::new(1);
    let first = tables.version;
    let snapshot = Arc::new(Snapshot::new(&domain, Box::new(tables)));
    let seen = Arc::new(AtomicU64::new(first));
    let ended = Arc::new(AtomicBool::new(false));
    let Some(mut reader) = domain.register() else { return Vec::new() };
    let worker = {
        let (snapshot, seen, ended) = (Arc::clone(&snapshot), Arc::clone(&seen), Arc::clone(&ended));
        std::thread::spawn(move || {
            reader.online();
            while !ended.load(Ordering::Relaxed) {
                seen.store(snapshot.read(&reader).version, Ordering::Release);
                reader.quiesce();
            }
        })
    };
    let mut latencies: Vec<u64> = (0..CHANGES)
        .map(|number| {
            let begin = Instant::now();
            let one_less = ENDPOINTS - number % 2;
            model.apply(Object::EndpointSlice(slice(number * 7919 % SERVICES, one_less)));
            let tables = model.compile();
            let version = tables.version;
            snapshot.publish(Box::new(tables));
            while seen.load(Ordering::Acquire) < version {
                std::hint::spin_loop();
            }
            let latency = begin.elapsed().as_nanos() as u64;
            snapshot.reclaim();
            latency
        })
        .collect();
    ended.store(true, Ordering::Relaxed);
    let _ = worker.join();
    latencies.sort_unstable();
    latencies
}

fn name(number: u32) -> ObjectName {
    ObjectName::new(format!("namespace-{}", number % 100), format!("service-{number}"))
}

fn service(number: u32) -> Service {
    let [.., high, low] = number.to_be_bytes();
    let node_port = number.is_multiple_of(4).then_some(30_000 + (number / 4 % 2_768) as u16);
    Service {
        name: name(number),
        labels: Default::default(),
        kind: if node_port.is_some() { ServiceType::NodePort } else { ServiceType::ClusterIp },
        cluster_ips: vec![IpAddr::from([10, 96, high, low])],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        source_ranges: Vec::new(),
        ports: vec![ServicePort { name: "http".into(), protocol: Transport::Tcp, port: 80, node_port }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
        foreign_proxy: false,
    }
}

fn slice(number: u32, endpoints: u32) -> EndpointSlice {
    let service = name(number);
    EndpointSlice {
        name: ObjectName::new(service.namespace, format!("{}-abcde", service.name)),
        service: Some(service.name),
        family: AddressFamily::V4,
        headless: false,
        ports: vec![SlicePort { name: "http".into(), protocol: Transport::Tcp, port: 8080 }],
        endpoints: (0..endpoints).map(|endpoint| pod(number * ENDPOINTS + endpoint)).collect(),
        trigger_time: None,
    }
}

fn pod(number: u32) -> Endpoint {
    Endpoint {
        address: IpAddr::V4((0x0a80_0000 + number).into()),
        conditions: Conditions::new(Some(true), None, None),
        node: Some(format!("node-{}", number % 500)),
        zone: Some(format!("zone-{}", number % 3)),
        for_nodes: Vec::new(),
        for_zones: Vec::new(),
        pod: Some(ObjectName::new(format!("namespace-{}", number % 100), format!("pod-{number}"))),
    }
}

/// Memory of this process that is in RAM.
fn resident_kibibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
