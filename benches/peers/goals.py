#!/usr/bin/env python3
"""The table of goals with the measured column, from the results of the benchmarks. Exit status 1: some fall short."""
import json
import sys
from pathlib import Path

FULL = {"testpmd-io": "testpmd io", "ovs-dpdk": "OVS-DPDK"}


def load(directory, name):
    path = directory / name
    return json.loads(path.read_text()) if path.exists() else None


def load_lines(directory, name):
    path = directory / name
    return [json.loads(line) for line in path.read_text().splitlines() if line] if path.exists() else None


def vhost_rows(report):
    """Rivals in the same run, by flow count."""
    goals = {("testpmd-io", 1024): 0.80, ("testpmd-io", 65536): 0.70, ("testpmd-io", 1048576): 0.50,
             ("ovs-dpdk", 1024): 4, ("ovs-dpdk", 65536): 8}
    cases = {case["flows"]: case for case in report["cases"] if case["case"] == "udp4-60" and case["services"] == 1} \
        if report else {}
    for (peer, flows), goal in goals.items():
        ratio = cases.get(flows, {}).get("ratios", {}).get(f"millrace / {peer}")
        value = ratio and ratio["median"]
        shown = ratio and f"{value:.2f}× ({ratio['least']:.2f}–{ratio['most']:.2f})"
        yield f"the work beside {FULL[peer]}, {flows:,} flows", f"≥ {goal}×", shown, value and value >= goal


def memory_rows(results):
    """The pipeline alone."""
    lines = results or []

    def one(family, flows, services=1):
        found = [r for r in lines if (r["family"], r["flows"], r["services"]) == (family, flows, services)]
        return found[0] if found else None

    for flows, goal in ((1024, 60), (65536, 110), (1048576, 170)):
        four, six = one("V4", flows), one("V6", flows)
        cycles = four and four["established_cycles"]
        yield (f"pipeline in memory, established IPv4 UDP with DNAT, {flows:,} flows", f"≤ {goal} cycles",
               cycles and f"{cycles} cycles", cycles and cycles <= goal)
        ratio = four and six and six["established_cycles"] / cycles
        yield (f"the same, IPv6 beside IPv4, {flows:,} flows", "≤ 1.25×", ratio and f"{ratio:.2f}×",
               ratio and ratio <= 1.25)
    few, many = one("V4", 65536, 10), one("V4", 65536, 10000)
    ratio = few and many and many["new_flow_nanos"] / few["new_flow_nanos"]
    yield "a new flow, 10,000 services beside 10", "≤ 1.2×", ratio and f"{ratio:.2f}×", ratio and ratio <= 1.2
    ratio = few and many and many["established_nanos"] / few["established_nanos"]
    yield ("an established packet, 10,000 services beside 10", "no difference (≤ 1.05×)", ratio and f"{ratio:.2f}×",
           ratio and ratio <= 1.05)
    new = one("V4", 65536)
    rate = new and new["new_flows_per_second"] / 1e6
    yield "new flows in memory", "≥ 3 M/s", rate and f"{rate:.2f} M/s", rate and rate >= 3
    worst = max((r["allocations"] for r in lines), default=None)
    yield "allocations in the hot path", "0", None if worst is None else str(worst), worst == 0 if lines else None


def worker_rows(results):
    """Several workers over one flow table."""
    found = results[0] if results else {}
    ratio = found.get("two_workers_beside_one")
    shown = ratio and f"{ratio:.2f}× ({found['least']:.2f}–{found['most']:.2f})"
    yield "two workers beside one, in memory", "≥ 1.9×", shown, ratio and ratio >= 1.9


def cluster_rows(results):
    """The control thread with a large cluster."""
    found = results[0] if results else {}
    load, memory, change = (found.get(key) for key in ("load_millis", "resident_mebibytes", "change_micros_p99"))
    cluster = "10,000 services / 100,000 endpoints"
    yield f"one endpoint changes, {cluster}, until a worker has it", "p99 ≤ 5 ms", \
        change and f"{change / 1000:.2f} ms", change and change <= 5000
    yield f"load of {cluster}", "≤ 2 s", load and f"{load / 1000:.2f} s", load and load <= 2000
    yield f"model and tables of {cluster}", "≤ 300 MiB", memory and f"{memory} MiB", memory and memory <= 300


def kernel_rows(report, idle):
    """Kernel pods: veth is their kind; TAP, that of older kernels, is shown beside it."""
    ratios = report["ratios"] if report else {}
    for kind in ("veth", "tap"):
        found = ratios.get(kind, {})
        for target in ("pod", "service"):
            value = found.get(f"{target} gbit")
            yield (f"iperf3 TCP pod to {target} ({kind}, {idle}) beside the kernel", "≥ 1.0×", value and f"{value:.2f}×",
                   value and value >= 1)
        for percentile in ("p50", "p99"):
            value = found.get(f"service {percentile} us")
            yield (f"TCP request/response to a service, {percentile} ({kind}, {idle})", "≤ 1.0×", value and f"{value:.2f}×",
                   value and value <= 1)


def node_rows(report, wire):
    """Node to node: what is encapsulated beside the kernel's VXLAN, what is not beside its routing. From vhost-user pods where they
    are measured: the veth of others bounds all alike."""
    ratios = report["ratios"] if report else {}
    for pair in ("millrace-native / kernel-routing", "millrace-vxlan / kernel-vxlan"):
        found = ratios.get(pair, {})
        for field, what, goal in (("mpps vhost", "packets a second", 2), ("gbit", "iperf3 TCP", 1)):
            value = found.get(field)
            yield f"node to node, {wire}, {what}, {pair}", f"≥ {goal}×", value and f"{value:.2f}×", value and value >= goal


NOT_MEASURED = (
    ("new flows through vhost ports", "≥ 1.5 M/s"),
    ("AF_XDP veth to veth beside testpmd with net_af_xdp", "≥ 1.0×"),
    ("1 M flows", "≤ 256 MiB"),
    ("idle worker, adaptive mode", "≤ 3 % of a core, wake-up ≤ 60 µs"),
)


def main():
    directory = Path(sys.argv[1])
    rows = [*vhost_rows(load(directory, "vhost.json")), *memory_rows(load_lines(directory, "memory.jsonl")),
            *worker_rows(load_lines(directory, "workers.jsonl")),
            *cluster_rows(load_lines(directory, "cluster.jsonl")), *kernel_rows(load(directory, "kernel-pods.json"), "adaptive"),
            *kernel_rows(load(directory, "kernel-pods-busy.json"), "busy"),
            *node_rows(load(directory, "nodes.json"), "packets of 1500 bytes"),
            *node_rows(load(directory, "nodes-plain.json"), "plain veths")]
    rows += [(what, goal, None, None) for what, goal in NOT_MEASURED]
    print("| what | goal | measured | |\n|---|---|---|---|")
    for what, goal, shown, reached in rows:
        mark = "not measured" if reached is None else ("reached" if reached else "**falls short**")
        print(f"| {what} | {goal} | {shown or '–'} | {mark} |")
    short = [what for what, _, _, reached in rows if reached is False]
    if short:
        print(f"\nFalls short: {'; '.join(short)}.")
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
