#!/usr/bin/env python3
"""Runs Millrace and its peers on the same work, alternately, and writes what came out.

The machine may be shared and its speed may swing between minutes, so rivals take turns and the figure to quote is
the median of the ratio within a round.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from check import check
from millrace import Millrace
from systems import CORE, OvsDpdk, TestpmdIo, Work
from testpmd import load_generator, realtime

HERE = Path(__file__).resolve().parent
SYSTEMS = {system.name: system for system in (TestpmdIo, OvsDpdk, Millrace)}
FIRST_SECONDS, MOST_WARMUP_SECONDS = 2, 40
# Fewer than a ring holds: none is lost, however late somebody is scheduled.
CHECKED_FRAMES = 200


def work_of(case, flows, services):
    protocol, family = re.fullmatch(r"(udp|tcp)([46])-(\d+|imix)", case).group(1, 2)
    if family == "4":
        return Work(protocol=protocol, flows=flows, services=services)
    return Work(service="fd00:96::10", backends=("fd00:2::1", "fd00:2::2"), clients="fd00:1::/64",
                backend_net="fd00:2::/64", protocol=protocol, flows=flows, services=services)


def make_pcap(path, work, size, flows, frames=None):
    subprocess.run([HERE / "mkpcap.py", path, f"--flows={flows}", f"--size={size}", f"--protocol={work.protocol}",
                    f"--source={work.clients}", f"--destination={work.service}", f"--port={work.port}",
                    f"--source-mac={work.client_mac}", f"--destination-mac={work.gateway_mac}",
                    *([f"--frames={frames}"] if frames else [])], check=True)


def verify(system_class, work, size, room):
    """Plays a few frames once and checks each at the sink."""
    pcap, capture = room / "verify.pcap", room / "sink.pcap"
    make_pcap(pcap, work, size, CHECKED_FRAMES)
    with system_class(work) as system, load_generator(pcap, system.sockets, capture=capture) as generator:
        time.sleep(0.5)
        generator.command("set fwd io retry")
        generator.command("set burst tx delay 100 retry 1000")
        generator.start()
        time.sleep(1.5)
        lost = system.drops() if isinstance(system, Millrace) else {}
    found = check(capture, work)
    if system_class is TestpmdIo:
        found["faults"] = {name: count for name, count in found["faults"].items() if "checksum" in name}
    if found["frames"] != CHECKED_FRAMES or found["faults"]:
        raise RuntimeError(f"{system_class.name} does not do the work: {found}, drops: {lost}")
    return found


def settled_rate(generator, work, seconds):
    """Frames per second, after every flow has been seen three times."""
    begin = time.monotonic()
    time.sleep(FIRST_SECONDS)
    while generator.stats(2)["RX-packets"] < 3 * work.flows and time.monotonic() - begin < MOST_WARMUP_SECONDS:
        time.sleep(0.2)
    generator.stats(2)
    time.sleep(seconds)
    return generator.stats(2)["Rx-pps"]


def measure(system_class, work, pcap, seconds, generator_options, log):
    """Millions of frames per second at the sink of a fresh system."""
    with system_class(work) as system:
        try:
            with load_generator(pcap, system.sockets, **generator_options) as generator:
                generator.start()
                with realtime((generator.process.pid, generator.core), (system.pid(), CORE)):
                    rate = settled_rate(generator, work, seconds)
                if isinstance(system, Millrace):
                    log["drops"] = system.drops()
                return rate / 1e6
        except Exception:
            print(system.logs(), file=sys.stderr)
            raise


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def run_case(case, flows, args, room):
    work = work_of(case, flows, args.services)
    size = case.split("-")[1]
    pcap = room / "work.pcap"
    # A mixture of sizes must not be the same for each flow, so it takes more frames than flows.
    make_pcap(pcap, work, size, flows, max(flows, 16384) if size == "imix" else None)
    frames = max(flows, 16384)
    options = {"mbufs": frames + 32768, "queue_size": args.queue_size}
    result = {"case": case, "flows": flows, "services": args.services, "rounds": [], "notes": {}}
    for name in args.systems:
        if not args.no_verify:
            result["notes"][f"{name} verified"] = verify(SYSTEMS[name], work, size, room)
    for number in range(args.rounds):
        rates = {}
        for name in args.systems:
            notes = {}
            rates[name] = round(measure(SYSTEMS[name], work, pcap, args.seconds, options, notes), 3)
            result["notes"].update({f"{name} {key}": value for key, value in notes.items()})
        result["rounds"].append(rates)
        print(f"{case} {flows} flows, round {number + 1}: {rates} Mpps", flush=True)
    result["mpps"] = {name: spread([rates[name] for rates in result["rounds"]]) for name in args.systems}
    result["ratios"] = {
        f"millrace / {peer}": spread([rates["millrace"] / rates[peer] for rates in result["rounds"]])
        for peer in args.systems if peer != "millrace" and "millrace" in args.systems}
    return result


def table(report):
    lines = [f"# {report['title']}", "", machine.markdown(report["machine"]), "",
             f"{' · '.join(report['versions'])} · {report['seconds']} s a round, {report['roundCount']} rounds, "
             "generator and system one core each. Mpps at the sink: median (least–most) of the rounds.", ""]
    names = report["systems"]
    ratios = [f"millrace / {name}" for name in names if name != "millrace"] if "millrace" in names else []
    lines += [f"| work | flows | {' | '.join(names + ratios)} |", "|---|---|" + "---|" * len(names + ratios)]
    for case in report["cases"]:
        cells = [case["mpps"][name] for name in names] + [case["ratios"][ratio] for ratio in ratios]
        texts = [f"{c['median']:.2f} ({c['least']:.2f}–{c['most']:.2f})" for c in cells]
        services = f", {case['services']:,} services" if case["services"] > 1 else ""
        lines.append(f"| {case['case']}{services} | {case['flows']:,} | {' | '.join(texts)} |")
    return "\n".join(lines) + "\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="udp4-60", help="comma-separated: udp4-60, udp6-60, tcp4-512, udp4-imix, …")
    parser.add_argument("--flows", default="1024,65536,1048576")
    parser.add_argument("--services", type=int, default=1, help="services that are loaded besides")
    parser.add_argument("--systems", default="testpmd-io,ovs-dpdk,millrace")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--queue-size", type=int, default=256)
    parser.add_argument("--no-verify", action="store_true", help="do not check the frames at the sink first")
    parser.add_argument("--out", type=Path, help="directory for NAME.json and NAME.md")
    parser.add_argument("--name", default="vhost")
    parser.add_argument("--title", default="Vhost-user to vhost-user: DNAT with connection tracking")
    args = parser.parse_args()
    args.systems = args.systems.split(",")
    return args


def main():
    args = arguments()
    report = {"title": args.title, "machine": machine.describe(), "seconds": args.seconds,
              "roundCount": args.rounds, "systems": args.systems, "cases": [],
              "versions": [SYSTEMS[name](Work()).version() for name in args.systems]}
    with tempfile.TemporaryDirectory(prefix="mrbench") as room:
        for case in args.cases.split(","):
            for flows in args.flows.split(","):
                report["cases"].append(run_case(case, int(flows), args, Path(room)))
    print(table(report))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{args.name}.json").write_text(json.dumps(report, indent=1) + "\n")
        (args.out / f"{args.name}.md").write_text(table(report))


if __name__ == "__main__":
    main()
