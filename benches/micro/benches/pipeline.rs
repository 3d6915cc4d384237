//! Established packets and new flows through the pipeline, by family and number of flows.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millrace_bench_micro::{Family, Shape, Workload};

fn established(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("established");
    group.throughput(Throughput::Elements(1));
    for family in [Family::V4, Family::V6] {
        for flows in [1 << 10, 1 << 16, 1 << 20] {
            let mut workload = Workload::new(Shape { family, flows, services: 1 });
            workload.run(workload.flows() * 2);
            group.bench_function(BenchmarkId::new(format!("{family:?}"), flows), |bencher| {
                // The workload moves in bursts: time is scaled to the packets asked for.
                bencher.iter_custom(|packets| workload.run(packets as usize));
            });
        }
    }
}

fn new_flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("new_flow");
    group.throughput(Throughput::Elements(1)).sample_size(10);
    for services in [10, 10_000] {
        group.bench_function(BenchmarkId::new("services", services), |bencher| {
            bencher.iter_custom(|packets| {
                let flows = (packets as u32).next_multiple_of(64).clamp(64, 1 << 20);
                let shape = Shape { family: Family::V4, flows, services };
                let spent = Workload::new(shape).run(flows as usize);
                spent.mul_f64(packets as f64 / f64::from(flows))
            });
        });
    }
}

criterion_group!(benches, established, new_flows);
criterion_main!(benches);
