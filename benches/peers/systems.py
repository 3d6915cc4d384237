"""The systems under test. Each is a context manager that offers two vhost-user server sockets on one core."""
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from testpmd import Testpmd

CORE = 0


@dataclass
class Work:
    """What has to be done: frames to service:port leave for one of two backends."""
    service: str = "10.96.0.10"
    port: int = 53
    backends: tuple = ("10.2.0.1", "10.2.0.2")
    target_port: int = 5300
    clients: str = "10.1.0.0/16"
    backend_net: str = "10.2.0.0/16"
    protocol: str = "udp"
    flows: int = 1024
    services: int = 1
    client_mac: str = "02:00:00:00:00:01"
    backend_mac: str = "02:00:00:00:00:02"
    gateway_mac: str = "02:4d:52:00:00:01"

    @property
    def ipv6(self):
        return ":" in self.service


def wait_for(what, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come within {seconds} s")
        time.sleep(0.05)


def end(process, seconds=20):
    """SIGTERM, and SIGKILL for what does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class System:
    """A temp directory, two sockets, and the log of whatever runs."""
    name = "?"

    def __init__(self, work):
        self.work = work

    def __enter__(self):
        self.room = Path(tempfile.mkdtemp(prefix="mrpeer"))
        self.sockets = [str(self.room / "vhost1"), str(self.room / "vhost2")]
        try:
            self.begin()
            wait_for(f"{self.name}'s sockets", lambda: all(os.path.exists(path) for path in self.sockets))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.finish()
        finally:
            shutil.rmtree(self.room, ignore_errors=True)

    def pid(self):
        """The process whose thread on CORE polls."""
        raise NotImplementedError

    def logs(self):
        return {path.name: path.read_text(errors="replace")[-2000:] for path in self.room.glob("*.log")}


class TestpmdIo(System):
    """No work at all: frames are moved from one vhost port to the other. The practical ceiling."""
    name = "testpmd-io"
    testpmd = None

    def begin(self):
        vdevs = [f"net_vhost{n},iface={path},queues=1" for n, path in enumerate(self.sockets)]
        self.testpmd = Testpmd(f"mrio{os.getpid()}", CORE, vdevs, ["--forward-mode=io", "--port-topology=chained"],
                               self.room / "testpmd.log")
        self.testpmd.start()

    def pid(self):
        return self.testpmd.process.pid

    def finish(self):
        if self.testpmd:
            self.testpmd.close()

    def version(self):
        out = subprocess.run(["pkg-config", "--modversion", "libdpdk"], capture_output=True, text=True, check=False)
        return f"DPDK {out.stdout.strip()}"


class OvsDpdk(System):
    """Open vSwitch's userspace datapath: conntrack, NAT and a select group over two backends."""
    name = "ovs-dpdk"
    vswitchd = ovsdb = None

    def begin(self):
        room = self.room
        self.env = {**os.environ, "OVS_RUNDIR": str(room), "OVS_LOGDIR": str(room), "OVS_DBDIR": str(room),
                    "OVS_SYSCONFDIR": str(room)}
        self.db = f"unix:{room}/db.sock"
        self.run("ovsdb-tool", "create", f"{room}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
        log = open(room / "ovs.log", "wb")
        self.ovsdb = subprocess.Popen(["ovsdb-server", f"{room}/conf.db", f"--remote=p{self.db}",
                                       f"--unixctl={room}/ovsdb.ctl"], env=self.env, stdout=log, stderr=log)
        wait_for("ovsdb-server", lambda: os.path.exists(room / "db.sock"))
        extra = f"--in-memory --single-file-segments --no-pci --file-prefix=mrovs{os.getpid()}"
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", "other_config:dpdk-init=true",
                   f"other_config:pmd-cpu-mask={1 << CORE:#x}", "other_config:dpdk-lcore-mask=0x2",
                   "other_config:dpdk-socket-mem=1024", f'other_config:dpdk-extra="{extra}"')
        # A bridge's local interface appears in the namespace of the switch: give it one that goes with it.
        self.vswitchd = subprocess.Popen(["unshare", "--net", "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk",
                                          self.db, f"--unixctl={room}/vswitchd.ctl"],
                                         env=self.env, stdout=log, stderr=log)
        wait_for("ovs-vswitchd", lambda: os.path.exists(room / "vswitchd.ctl"))
        ports = [arg for n in (1, 2) for arg in ("--", "add-port", "br0", f"vhost{n}", "--", "set", "Interface",
                                                 f"vhost{n}", "type=dpdkvhostuser", f"ofport_request={n}")]
        self.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev",
                   "protocols=OpenFlow10,OpenFlow15", "fail-mode=secure", *ports)
        self.program()

    def program(self):
        work = self.work
        family = "6" if work.ipv6 else ""
        match = f"{work.protocol}{family},{'ipv6_dst' if work.ipv6 else 'nw_dst'}={work.service}"
        hosts = [f"[{b}]" if work.ipv6 else b for b in work.backends]
        buckets = ",".join(f"bucket=actions=ct(commit,zone=1,nat(dst={host}:{work.target_port}),table=2)"
                           for host in hosts)
        self.ofctl("add-group", "br0", f"group_id=1,type=select,{buckets}")
        for flow in (
            f"table=0,in_port=1,{match},tp_dst={work.port},actions=ct(zone=1,nat,table=1)",
            f"table=1,ct_state=+trk+new,{work.protocol}{family},actions=group:1",
            f"table=1,ct_state=+trk+est,{work.protocol}{family},actions=resubmit(,2)",
            f"table=2,actions=mod_dl_src:{work.gateway_mac},mod_dl_dst:{work.backend_mac},output:2",
        ):
            self.ofctl("add-flow", "br0", flow)

    def pid(self):
        return self.vswitchd.pid

    def finish(self):
        # The switch ends cleanly only when asked; unshare has become the switch, so the pid is its own.
        for process in (self.vswitchd, self.ovsdb):
            if process:
                end(process)

    def run(self, *command):
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout

    def vsctl(self, *args):
        return self.run("ovs-vsctl", f"--db={self.db}", "--timeout=30", *args)

    def ofctl(self, command, bridge, *args):
        return self.run("ovs-ofctl", "-O", "OpenFlow15", command, f"unix:{self.room}/{bridge}.mgmt", *args)

    def version(self):
        out = subprocess.run(["ovs-vsctl", "--version"], capture_output=True, text=True, check=False)
        return "Open vSwitch " + out.stdout.split("\n")[0].split()[-1]
