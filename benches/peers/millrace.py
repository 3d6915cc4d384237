"""Millrace as a system under test: its own network namespace, directories and sockets; one worker that always polls."""
import json
import os
import subprocess
from pathlib import Path

from systems import CORE, System, end, wait_for

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("MILLRACE_BIN", ROOT / "target" / "release"))


def service(name, address, port, target_port, protocol, backends):
    """A Service and its EndpointSlice, as Kubernetes writes them."""
    family = "IPv6" if ":" in address else "IPv4"
    return [{
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "bench"},
        "spec": {"clusterIP": address, "clusterIPs": [address], "ipFamilies": [family], "selector": {"app": name},
                 "ports": [{"name": "work", "protocol": protocol, "port": port, "targetPort": target_port}]},
    }, {
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
        "metadata": {"name": f"{name}-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": "work", "protocol": protocol, "port": target_port}],
        "endpoints": [{"addresses": [backend], "conditions": {"ready": True}} for backend in backends],
    }]


def forget(room):
    """Has nothing stay of a daemon that was configured in this directory: its flow table outlives it."""
    subprocess.run([BINARIES / "millraced", "--uninstall", "--config", room / "millrace.yaml"], capture_output=True,
                   check=False)


class Millrace(System):
    """Routing, DNAT with connection tracking, spoof check: what it does for pods."""
    name = "millrace"
    daemon = None

    def begin(self):
        if not (BINARIES / "millraced").exists():
            raise FileNotFoundError(f"{BINARIES}/millraced: build it with cargo build --release")
        self.write_manifests()
        # JSON is YAML.
        (self.room / "millrace.yaml").write_text(json.dumps(self.config(), indent=1))
        log = open(self.room / "millraced.log", "wb")
        script = 'ip link set lo up && exec "$0" "$@"'
        self.daemon = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", script, BINARIES / "millraced", "--config", self.room / "millrace.yaml"],
            stdout=log, stderr=log)
        wait_for("millraced's API", self.answers)

    def answers(self):
        if self.daemon.poll() is not None:
            raise RuntimeError(f"millraced ended: {self.logs()}")
        return self.cli("status").returncode == 0

    def write_manifests(self):
        work, room = self.work, self.room / "manifests"
        room.mkdir()
        objects = service("work", work.service, work.port, work.target_port, work.protocol.upper(), work.backends)
        for index in range(1, work.services):
            address = f"fd00:97::{index:x}" if work.ipv6 else f"10.97.{index >> 8}.{index & 255}"
            objects += service(f"other-{index}", address, 80, 8080, "TCP", work.backends)
        (room / "all.yaml").write_text("\n---\n".join(json.dumps(thing) for thing in objects))

    def config(self):
        work = self.work
        sides = ((work.client_mac, work.clients), (work.backend_mac, work.backend_net))
        return {
            "nodeName": "bench",
            "source": {"directory": "manifests"},
            "workers": {"cores": [CORE], "idle": "busy"},
            "memory": {"hugepages": "required", "mebibytes": 512, "frames": 32768, "afXdpFrames": 1024},
            "eal": {"filePrefix": f"mrsut{os.getpid()}"},
            "flowTable": {"connections": max(262144, 2 * work.flows)},
            "gateway": {"mac": work.gateway_mac},
            "api": {"socket": str(self.room / "api.sock")},
            "stateDirectory": str(self.room / "state"),
            "ports": [{"name": f"side{n}", "kind": "vhost-user", "mac": mac, "addresses": [net],
                       "vhostUser": {"socket": path, "mode": "server"}}
                      for n, ((mac, net), path) in enumerate(zip(sides, self.sockets, strict=True))],
        }

    def cli(self, *args):
        return subprocess.run([BINARIES / "millrace", "--socket", self.room / "api.sock", *args],
                              capture_output=True, text=True, check=False)

    def pid(self):
        return self.daemon.pid

    def drops(self):
        answer = self.cli("drops", "-o", "json")
        found = json.loads(answer.stdout)["drops"] if answer.returncode == 0 else []
        return {drop["reason"]: drop["frames"] for drop in found if drop["frames"]}

    def finish(self):
        if self.daemon:
            end(self.daemon)
            forget(self.room)

    def version(self):
        out = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                             check=False)
        return f"millrace {out.stdout.strip()}"
