#!/usr/bin/env python3
"""Pods of two nodes: Millrace beside the kernel's routing and the kernel's VXLAN device, taking turns.

  client ── node-1 ══ wire ══ node-2 ── server

TCP by iperf3 and one-byte requests between kernel stacks, through both nodes. Packets a second through the first node
alone: testpmd sends 60-byte frames as fast as it can (core 0), the node forwards them (core 1) and what comes out of its NIC
is counted and dropped. It sends them from a pod's veth ("mpps"), where what the sender's own kernel does bounds all alike,
and, where nodes have such pods, from a vhost-user pod ("mpps vhost"). The wire carries packets of 1500 bytes, as a wire does:
NICs cut what is larger, in software, for all alike. With `--wire plain` it is a pair of veths as they come, which carries whatever
it is given: nobody cuts, makes checksums or puts anything together.
"""
import argparse
import contextlib
import ipaddress
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import mkpcap
from kernel_pods import ASK, ECHO, inside, namespaces, run
from millrace import BINARIES, forget
from systems import end, wait_for
from testpmd import load_generator, realtime

CLIENT, SERVER = "10.77.1.10", "10.77.2.10"
NODES = {1: "192.0.2.1", 2: "192.0.2.2"}
GATEWAY = "169.254.1.1"
GATEWAY_MAC, POD_MAC = "02:00:00:00:01:01", "02:00:00:00:02:01"
GENERATOR_CORE, NODE_CORE = 0, 1
SYSTEMS = ("kernel-routing", "kernel-vxlan", "millrace-native", "millrace-vxlan")
# What stands beside what.
PAIRS = (("millrace-native", "kernel-routing"), ("millrace-vxlan", "kernel-vxlan"), ("millrace-native", "kernel-vxlan"))


def nic_mac(node):
    return f"02:00:00:00:00:0{node}"


def vtep_mac(node):
    return f"02:56:c0:00:02:0{node}"


def wire(nodes, is_plain):
    """One link between the NICs of two namespaces; all neighbours are known."""
    run("ip", "link", "add", "nic", "address", nic_mac(1), "netns", nodes[1], "type", "veth",
        "peer", "name", "nic", "address", nic_mac(2), "netns", nodes[2])
    for number, netns in nodes.items():
        other = 3 - number
        if not is_plain:
            run(*inside(netns, "ethtool", "-K", "nic", "tx", "off", "tso", "off", "gso", "off", "gro", "on"))
        run(*inside(netns, "ip", "link", "set", "nic", "up"))
        run(*inside(netns, "ip", "addr", "add", f"{NODES[number]}/24", "dev", "nic"))
        run(*inside(netns, "ip", "neigh", "replace", NODES[other], "lladdr", nic_mac(other), "dev", "nic", "nud", "permanent"))


def kernel_node(number, netns, pod, address, tunnel):
    other = 3 - number
    run("ip", "link", "add", "pod", "netns", netns, "type", "veth", "peer", "name", "eth0", "netns", pod)
    run(*inside(netns, "ip", "link", "set", "pod", "up"))
    run(*inside(netns, "ip", "addr", "add", f"{GATEWAY}/32", "dev", "pod"))
    run(*inside(netns, "ip", "route", "add", address, "dev", "pod"))
    run(*inside(netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    mtu = "1450" if tunnel else "1500"
    run(*inside(pod, "ip", "link", "set", "eth0", "mtu", mtu, "up"))
    run(*inside(pod, "ip", "addr", "add", f"{address}/32", "dev", "eth0"))
    run(*inside(pod, "ip", "route", "add", "default", "via", GATEWAY, "dev", "eth0", "onlink"))
    # The node's work has a core of its own, as Millrace's worker has.
    run(*inside(netns, "sh", "-c", f"echo {1 << NODE_CORE:x} > /sys/class/net/pod/queues/rx-0/rps_cpus"))
    if not tunnel:
        run(*inside(netns, "ip", "route", "add", f"10.77.{other}.0/24", "via", NODES[other]))
        return
    run(*inside(netns, "ip", "link", "add", "vx", "address", vtep_mac(number), "type", "vxlan", "id", "77",
                "dstport", "4789", "local", NODES[number], "dev", "nic", "nolearning"))
    run(*inside(netns, "ip", "link", "set", "vx", "up"))
    run(*inside(netns, "bridge", "fdb", "append", vtep_mac(other), "dev", "vx", "dst", NODES[other]))
    run(*inside(netns, "ip", "neigh", "add", f"10.77.{other}.0", "lladdr", vtep_mac(other), "dev", "vx", "nud", "permanent"))
    run(*inside(netns, "ip", "route", "add", f"10.77.{other}.0/24", "via", f"10.77.{other}.0", "dev", "vx", "onlink"))


def node_objects():
    return "\n---\n".join(json.dumps({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"node-{number}"},
        "spec": {"podCIDRs": [f"10.77.{number}.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]}}) for number, address in NODES.items())


class Daemon:
    """One node's."""

    def __init__(self, room, number, netns, pod, address, mode, kind, idle):
        self.room = Path(room) / f"node-{number}"
        (self.room / "manifests").mkdir(parents=True)
        (self.room / "manifests" / "nodes.yaml").write_text(node_objects())
        port = {"name": "pod", "kind": kind, "addresses": [address]}
        if kind == "vhost-user":
            port |= {"mac": POD_MAC, "vhostUser": {"socket": str(self.room / "pod.sock"), "mode": "server"}}
        else:
            port["netns"] = pod
        config = {"nodeName": f"node-{number}", "source": {"directory": "manifests"}, "hostLeg": "none",
                  "workers": {"count": 1, "idle": idle} if kind in ("tap", "veth") else {"cores": [NODE_CORE], "idle": idle},
                  "cluster": {"podCIDRs": ["10.77.0.0/16"]}, "uplinks": [{"interface": "nic"}],
                  "routing": {"mode": mode}, "memory": {"mebibytes": 256},
                  "api": {"socket": str(self.room / "api.sock")}, "stateDirectory": str(self.room / "state"),
                  "eal": {"filePrefix": f"mrno{os.getpid()}-{number}"}, "gateway": {"mac": GATEWAY_MAC}, "ports": [port]}
        (self.room / "millrace.yaml").write_text(json.dumps(config))
        with open(self.room / "log", "wb") as log:
            self.process = subprocess.Popen(
                inside(netns, BINARIES / "millraced", "--config", self.room / "millrace.yaml"), stdout=log, stderr=log)

    def wait(self):
        command = (BINARIES / "millrace", "--socket", self.room / "api.sock", "status")
        wait_for("millraced", lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)

    def drops(self):
        command = (BINARIES / "millrace", "--socket", self.room / "api.sock", "drops", "-o", "json")
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        return {drop["reason"]: drop["frames"] for drop in json.loads(found)["drops"] if drop["frames"]}


@contextlib.contextmanager
def system(name, kind, args):
    """Two nodes with a pod each; (client, server, both nodes' namespaces, daemons)."""
    with tempfile.TemporaryDirectory(prefix="mrno") as room, namespaces("n1", "n2", "client", "server") as names:
        nodes, client, server = {1: names[0], 2: names[1]}, names[2], names[3]
        wire(nodes, args.wire == "plain")
        places = ((1, nodes[1], client, CLIENT), (2, nodes[2], server, SERVER))
        who, mode = name.split("-")
        daemons = []
        try:
            for number, netns, pod, address in places:
                if who == "kernel":
                    kernel_node(number, netns, pod, address, mode == "vxlan")
                else:
                    daemons.append(Daemon(room, number, netns, pod, address, mode, kind, args.idle))
            for daemon in daemons:
                daemon.wait()
            if kind != "vhost-user":
                wait_for("the way to the server", lambda: subprocess.run(
                    inside(client, "ping", "-c1", "-W1", SERVER), capture_output=True, check=False).returncode == 0)
            yield client, server, nodes, daemons
        except BaseException:
            for daemon in daemons:
                print((daemon.room / "log").read_text(errors="replace")[-2000:], file=sys.stderr)
            raise
        finally:
            for daemon in daemons:
                end(daemon.process)
                forget(daemon.room)


def streams(client, server, seconds):
    """Gbit/s and microseconds."""
    echo = subprocess.Popen(inside(server, sys.executable, "-c", ECHO), stdout=subprocess.PIPE)
    iperf = subprocess.Popen(inside(server, "iperf3", "-s", "-1"), stdout=subprocess.DEVNULL)
    try:
        echo.stdout.readline()
        time.sleep(0.3)
        result = json.loads(run(*inside(client, "iperf3", "-J", "-c", SERVER, "-t", str(seconds))))
        _, p50, p99 = run(*inside(client, sys.executable, "-c", ASK, SERVER, str(seconds))).split()
        return {"gbit": round(result["end"]["sum_received"]["bits_per_second"] / 1e9, 3),
                "p50 us": int(p50) / 1000, "p99 us": int(p99) / 1000}
    finally:
        end(iperf)
        end(echo)


def gateway_mac(pod):
    run(*inside(pod, "ping", "-c1", "-W1", GATEWAY))
    for neighbour in json.loads(run(*inside(pod, "ip", "-j", "neigh", "show"))):
        if neighbour["dst"] == GATEWAY:
            return neighbour["lladdr"]
    raise RuntimeError("the pod's gateway has no MAC address")


def sent_by_nic(node, seconds):
    """Millions of packets a second."""
    counter = ("cat", "/sys/class/net/nic/statistics/tx_packets")
    begin, first = time.monotonic(), int(run(*inside(node, *counter)))
    time.sleep(seconds)
    rate = (int(run(*inside(node, *counter))) - first) / (time.monotonic() - begin)
    if rate < 1000:
        raise RuntimeError("nothing passes")
    return round(rate / 1e6, 4)


def first_node_alone(nodes, daemons):
    """Whatever node 2 did with packets would take the cores that node 1 needs."""
    sink = "table netdev sink {\n chain first {\n type filter hook ingress device nic priority 0; policy drop;\n }\n}\n"
    run(*inside(nodes[2], "nft", "-f", "-"), input=sink)
    for daemon in daemons[1:]:
        end(daemon.process)


def packets_from_veth(client, nodes, daemons, seconds):
    mac = gateway_mac(client)
    first_node_alone(nodes, daemons)
    with tempfile.TemporaryDirectory(prefix="mrno") as room, open(Path(room) / "log", "wb") as log:
        generator = subprocess.Popen(inside(
            client, "dpdk-testpmd", f"--lcores=0@{NODE_CORE},1@{GENERATOR_CORE}", "--no-huge", "-m", "256", "--no-pci",
            "--no-telemetry", f"--file-prefix=mrno{id(room)}", "--vdev=net_af_packet0,iface=eth0", "--", "--forward-mode=txonly",
            "--txpkts=60", f"--tx-ip={CLIENT},{SERVER}", "--tx-udp=7,9", f"--eth-peer=0,{mac}", "--auto-start",
            "--total-num-mbufs=8192", "--stats-period=100"), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            time.sleep(2)
            return {"mpps": sent_by_nic(nodes[1], seconds)}
        finally:
            end(generator)


def packets_from_vhost(nodes, daemons, seconds):
    first_node_alone(nodes, daemons)
    macs = bytes.fromhex((GATEWAY_MAC + POD_MAC).replace(":", ""))
    source, destination = ipaddress.ip_address(CLIENT), ipaddress.ip_address(SERVER)
    frames = [mkpcap.frame(macs, "udp", source, destination, 1024 + flow, 9, 60) for flow in range(1024)]
    with tempfile.TemporaryDirectory(prefix="mrno") as room:
        mkpcap.write(Path(room) / "pcap", frames)
        with load_generator(Path(room) / "pcap", [daemons[0].room / "pod.sock"], GENERATOR_CORE) as generator, \
                realtime((generator.process.pid, GENERATOR_CORE), (daemons[0].process.pid, NODE_CORE)):
            generator.start()
            time.sleep(1)
            return {"mpps vhost": sent_by_nic(nodes[1], seconds)}


def measure(name, args):
    with system(name, args.kind, args) as (client, server, _, _):
        found = streams(client, server, args.seconds)
    with system(name, "veth", args) as (client, _, nodes, daemons):
        found |= packets_from_veth(client, nodes, daemons, args.seconds)
    if name.startswith("millrace"):
        with system(name, "vhost-user", args) as (_, _, nodes, daemons):
            found |= packets_from_vhost(nodes, daemons, args.seconds)
    return found


def ratio(one, other, field):
    """A pod of the kernel's has no other interface than its veth."""
    return one[field] / other[field if field in other else "mpps"]


def ratios(rounds):
    for one, other in PAIRS:
        if one in rounds[0] and other in rounds[0]:
            fields = rounds[0][one]
            yield f"{one} / {other}", {
                field: round(statistics.median(ratio(each[one], each[other], field) for each in rounds), 3)
                for field in fields}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--systems", default=",".join(SYSTEMS))
    parser.add_argument("--idle", choices=("adaptive", "busy"), default="adaptive")
    parser.add_argument("--kind", choices=("veth", "tap"), default="veth")
    parser.add_argument("--wire", choices=("cut", "plain"), default="cut")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    report = {"machine": machine.describe(), "wire": args.wire, "rounds": []}
    for number in range(args.rounds):
        rates = {name: measure(name, args) for name in args.systems.split(",")}
        report["rounds"].append(rates)
        print(f"round {number + 1}: {json.dumps(rates)}", flush=True)
    report["ratios"] = dict(ratios(report["rounds"]))
    print(json.dumps(report["ratios"], indent=1))
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        name = "nodes.json" if args.wire == "cut" else "nodes-plain.json"
        (args.out / name).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
