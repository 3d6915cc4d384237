//! Prints what a packet costs in the pipeline alone, as JSON: one object per workload.

use millrace_bench_micro::{Family, Shape, Workload};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts allocations: the hot path must make none.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait; this one only counts")]
// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 5;

fn main() {
    let cycles_per_nano = cycles_per_nano();
    // With an argument: the workload whose number, from 0, it names.
    let only: Option<usize> = std::env::args().nth(1).and_then(|number| number.parse().ok());
    if std::env::args().nth(1).as_deref() == Some("workers") {
        return workers();
    }
    let workloads = [
        (Family::V4, 1 << 10, 1),
        (Family::V4, 1 << 16, 1),
        (Family::V4, 1 << 20, 1),
        (Family::V6, 1 << 10, 1),
        (Family::V6, 1 << 16, 1),
        (Family::V6, 1 << 20, 1),
        (Family::V4, 1 << 16, 10),
        (Family::V4, 1 << 16, 10_000),
    ];
    for (number, (family, flows, services)) in workloads.into_iter().enumerate() {
        if only.is_some_and(|only| only != number) {
            continue;
        }
        let mut workload = Workload::new(Shape { family, flows, services });
        let first = workload.run(flows as usize).as_nanos() as f64 / f64::from(flows);
        let packets = (flows as usize * 4).max(1 << 20);
        workload.run(packets);
        let mut nanos = Vec::with_capacity(ROUNDS);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..ROUNDS {
            nanos.push(workload.run(packets).as_nanos() as f64 / packets as f64);
        }
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        nanos.sort_by(f64::total_cmp);
        let median = nanos[ROUNDS / 2];
        let line = serde_json::json!({
            "family": format!("{family:?}"), "flows": flows, "services": services,
            "new_flow_nanos": round(first), "new_flows_per_second": round(1e9 / first),
            "established_nanos": round(median), "established_cycles": round(median * cycles_per_nano),
            "fastest_cycles": round(nanos[0] * cycles_per_nano), "allocations": allocations,
        });
        println!("{line}");
    }
}

/// Two workers that share a flow table beside one, in turns: packets in a second.
fn workers() {
    const FLOWS: u32 = 1 << 16;
    let shape = Shape { family: Family::V4, flows: FLOWS, services: 10 };
    let mut ratios = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let [one, two] = [1, 2].map(|count| rate(Workload::team(shape, count)));
        ratios.push(two / one);
    }
    ratios.sort_by(f64::total_cmp);
    let line = serde_json::json!({
        "workers_flows": FLOWS, "two_workers_beside_one": (ratios[ROUNDS / 2] * 100.0).round() / 100.0,
        "least": (ratios[0] * 100.0).round() / 100.0, "most": (ratios[ROUNDS - 1] * 100.0).round() / 100.0,
    });
    println!("{line}");
}

/// Established packets a second of all workers together, each on a thread of its own.
fn rate(team: Vec<Workload>) -> f64 {
    const PACKETS: usize = 1 << 23;
    std::thread::scope(|scope| {
        let work = |mut workload: Workload| {
            move || {
                workload.run(workload.flows() * 2);
                PACKETS as f64 / workload.run(PACKETS).as_secs_f64()
            }
        };
        let threads: Vec<_> = team.into_iter().map(|workload| scope.spawn(work(workload))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0.0)).sum()
    })
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Cycles of the time-stamp counter in a nanosecond, as the kernel found them; 1 where it does not say.
fn cycles_per_nano() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info
        .lines()
        .find_map(|line| line.strip_prefix("cpu MHz")?.split(':').nth(1)?.trim().parse::<f64>().ok());
    mhz.map_or(1.0, |mhz| mhz / 1000.0)
}
