#!/usr/bin/env python3
"""TCP between pods with kernel stacks: Millrace beside veth, kernel routing and nftables DNAT, taking turns.

Throughput by iperf3, latency by one-byte requests and answers; pod to pod and pod to ClusterIP.
"""
import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
from millrace import BINARIES, forget, service
from systems import end, wait_for

CLIENT, SERVER, SERVICE = "10.77.0.10", "10.77.0.11", "10.96.0.10"
IPERF_PORT, ECHO_PORT = 5201, 7007
PREFIX = f"mrkp{os.getpid()}"


def run(*command, **options):
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command} failed: {done.stdout[-500:]}{done.stderr[-500:]}")
    return done.stdout


def inside(netns, *command):
    return ("ip", "netns", "exec", netns, *command)


@contextlib.contextmanager
def namespaces(*labels):
    names = [f"{PREFIX}-{label}" for label in labels]
    made = []
    try:
        for name in names:
            run("ip", "netns", "add", name)
            made.append(name)
            run(*inside(name, "ip", "link", "set", "lo", "up"))
        yield names
    finally:
        for name in made:
            subprocess.run(("ip", "netns", "del", name), check=False)


@contextlib.contextmanager
def kernel(client, server):
    """Two veth pairs into a router that forwards and translates the ClusterIP."""
    with namespaces("router") as (router,):
        for netns, address in ((client, CLIENT), (server, SERVER)):
            link = f"v{address.rsplit('.', 1)[1]}"
            run("ip", "link", "add", link, "netns", router, "type", "veth", "peer", "name", "eth0", "netns", netns)
            run(*inside(netns, "ip", "addr", "add", f"{address}/32", "dev", "eth0"))
            run(*inside(netns, "ip", "link", "set", "eth0", "up"))
            run(*inside(netns, "ip", "route", "add", "default", "via", "169.254.1.1", "dev", "eth0", "onlink"))
            run(*inside(router, "ip", "link", "set", link, "up"))
            run(*inside(router, "ip", "route", "add", f"{address}/32", "dev", link))
            run(*inside(router, "sysctl", "-qw", f"net.ipv4.conf.{link}.proxy_arp=1"))
        run(*inside(router, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
        run(*inside(router, "ip", "addr", "add", "169.254.1.1/32", "dev", "lo"))
        rules = (f"table ip svc {{\n chain pre {{\n type nat hook prerouting priority dstnat;\n"
                 f"ip daddr {SERVICE} dnat to {SERVER}\n }}\n}}\n")
        run(*inside(router, "nft", "-f", "-"), input=rules)
        yield


@contextlib.contextmanager
def millrace(kind, idle, client, server):
    """The daemon with one worker and two ports of a kind."""
    with tempfile.TemporaryDirectory(prefix="mrkp") as room, namespaces("node") as (node,):
        room = Path(room)
        (room / "manifests").mkdir()
        objects = []
        for port in (IPERF_PORT, ECHO_PORT):
            objects += service(f"s{port}", SERVICE, port, port, "TCP", [SERVER])
        # One ClusterIP with both ports.
        objects = [objects[0], objects[1]]
        ports = [{"name": f"p{port}", "protocol": "TCP", "port": port} for port in (IPERF_PORT, ECHO_PORT)]
        objects[0]["spec"]["ports"], objects[1]["ports"] = ports, ports
        (room / "manifests" / "all.yaml").write_text("\n---\n".join(json.dumps(thing) for thing in objects))
        config = {"nodeName": "bench", "source": {"directory": "manifests"}, "workers": {"count": 1, "idle": idle},
                  "api": {"socket": str(room / "api.sock")}, "stateDirectory": str(room / "state"),
                  "ports": [{"name": netns[-6:].strip("-"), "kind": kind, "netns": netns, "addresses": [address]}
                            for netns, address in ((client, CLIENT), (server, SERVER))]}
        (room / "millrace.yaml").write_text(json.dumps(config))
        with open(room / "log", "wb") as log:
            daemon = subprocess.Popen(inside(node, BINARIES / "millraced", "--config", room / "millrace.yaml"),
                                      stdout=log, stderr=log)
        try:
            wait_for("millraced", lambda: subprocess.run(
                (BINARIES / "millrace", "--socket", room / "api.sock", "status"), capture_output=True,
                check=False).returncode == 0)
            yield
        except BaseException:
            print((room / "log").read_text(errors="replace")[-3000:], file=sys.stderr)
            raise
        finally:
            end(daemon)
            forget(room)


ECHO = """
import socket
s = socket.create_server(("", %d)); print("up", flush=True)
while True:
    c, _ = s.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while (d := c.recv(64)): c.send(d)
""" % ECHO_PORT
ASK = """
import socket, sys, time
c = socket.create_connection((sys.argv[1], %d)); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times, until = [], time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    b = time.perf_counter_ns(); c.send(b"x"); c.recv(1); times.append(time.perf_counter_ns() - b)
times.sort(); print(len(times), times[len(times) // 2], times[len(times) * 99 // 100])
""" % ECHO_PORT


def measure(client, server, seconds):
    """Gbit/s and microseconds (p50, p99), to the pod and to the ClusterIP."""
    found = {}
    wait_for("the pod's link", lambda: subprocess.run(inside(client, "ping", "-c1", "-W1", SERVER),
                                                      capture_output=True, check=False).returncode == 0)
    echo = subprocess.Popen(inside(server, sys.executable, "-c", ECHO), stdout=subprocess.PIPE)
    try:
        echo.stdout.readline()
        for target, name in ((SERVER, "pod"), (SERVICE, "service")):
            iperf = subprocess.Popen(inside(server, "iperf3", "-s", "-1"), stdout=subprocess.DEVNULL)
            try:
                time.sleep(0.3)
                result = json.loads(run(*inside(client, "iperf3", "-J", "-c", target, "-t", str(seconds))))
                found[f"{name} gbit"] = round(result["end"]["sum_received"]["bits_per_second"] / 1e9, 3)
            finally:
                end(iperf)
            _, p50, p99 = run(*inside(client, sys.executable, "-c", ASK, target, str(seconds))).split()
            found[f"{name} p50 us"], found[f"{name} p99 us"] = int(p50) / 1000, int(p99) / 1000
    finally:
        end(echo)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--systems", default="kernel,veth,tap")
    parser.add_argument("--idle", choices=("adaptive", "busy"), default="adaptive")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report = {"machine": machine.describe(), "rounds": []}
    names = args.systems.split(",")
    for number in range(args.rounds):
        rates = {}
        for name in names:
            with namespaces("client", "server") as (client, server):
                system = kernel(client, server) if name == "kernel" else millrace(name, args.idle, client, server)
                with system:
                    rates[name] = measure(client, server, args.seconds)
        report["rounds"].append(rates)
        print(f"round {number + 1}: {json.dumps(rates)}", flush=True)
    report["ratios"] = {
        name: {field: statistics.median(r[name][field] / r["kernel"][field] for r in report["rounds"])
               for field in report["rounds"][0][name]}
        for name in names if name != "kernel" and "kernel" in names}
    print(json.dumps(report["ratios"], indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        name = "kernel-pods.json" if args.idle == "adaptive" else f"kernel-pods-{args.idle}.json"
        (args.out / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
