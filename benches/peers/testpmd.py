"""Drives dpdk-testpmd: a process with a prompt, its counters, and its threads' scheduling."""
import contextlib
import os
import re
import select
import subprocess
import time

PROMPT = b"testpmd> "
CONTROL_PRIORITY = 60  # above the pollers, or their cores would never let a command through
POLLER_PRIORITY = 50


def threads_of(pid):
    """(tid, name, allowed cores) of every thread of a process."""
    for tid in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{tid}/comm", encoding="ascii", errors="replace") as comm:
                yield int(tid), comm.read().strip(), os.sched_getaffinity(int(tid))
        except (FileNotFoundError, ProcessLookupError):
            continue


def set_policy(pid, core, policy, control, poller):
    """Sets the scheduling of a process's threads: those bound to `core` alone are pollers. Says how many they are."""
    pollers = 0
    for tid, _, cores in threads_of(pid):
        polls = core is not None and cores == {core}
        pollers += polls
        try:
            os.sched_setscheduler(tid, policy, os.sched_param(poller if polls else control))
        except ProcessLookupError:
            continue
    return pollers


@contextlib.contextmanager
def realtime(*processes):
    """SCHED_FIFO for (pid, core) pairs while measuring.

    Controlling threads, this process among them, get a higher priority, or they could not interrupt the pollers.
    All is taken back before anything ends: a process that waits in the kernel with real-time priority keeps
    the kernel's own threads from ending the other.
    """
    me = (os.getpid(), None)
    try:
        for pid, core in (*processes, me):
            if not set_policy(pid, core, os.SCHED_FIFO, CONTROL_PRIORITY, POLLER_PRIORITY) and core is not None:
                raise RuntimeError(f"process {pid} has no thread bound to core {core}")
        yield
    finally:
        for pid, core in (*processes, me):
            if os.path.exists(f"/proc/{pid}"):
                set_policy(pid, core, os.SCHED_OTHER, 0, 0)


class Testpmd:
    """A testpmd with `core` as its only forwarding core. Commands are typed at its prompt."""

    def __init__(self, prefix, core, vdevs, options=(), log=None):
        # Its prompt is written at once but its output through stdio: line by line, or they come out of order.
        eal = ["stdbuf", "-oL", "dpdk-testpmd", f"--lcores=0@(0,1),1@{core}", "--no-pci", "--in-memory", "--single-file-segments",
               f"--file-prefix={prefix}", "--log-level=lib.vhost.config:error"]
        eal += [f"--vdev={vdev}" for vdev in vdevs]
        self.core = core
        self.log = open(log, "wb") if log else None
        self.process = subprocess.Popen([*eal, "--", "-i", "--no-mlockall", "--nb-cores=1", *options],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = b""
        try:
            self.read_prompt(60)
        except BaseException:
            self.close()
            raise

    def read_prompt(self, seconds):
        """What it printed up to its next prompt."""
        deadline = time.monotonic() + seconds
        pipe = self.process.stdout.fileno()
        while PROMPT not in self.output:
            left = deadline - time.monotonic()
            ready = select.select([pipe], [], [], max(0, left))[0]
            chunk = os.read(pipe, 65536) if ready else b""
            if not chunk:
                what = "ended" if ready else "said nothing"
                raise RuntimeError(f"testpmd {what}:\n{self.output.decode(errors='replace')[-3000:]}")
            if self.log:
                self.log.write(chunk)
            self.output += chunk
        text, self.output = self.output.split(PROMPT, 1)
        return text.decode(errors="replace")

    def command(self, text, seconds=30):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        return self.read_prompt(seconds)

    def start(self):
        self.command("start")

    def stats(self, port):
        """Counters of a port: RX-packets, RX-missed, TX-packets, TX-dropped, …, and Rx-pps since the last call."""
        text = self.command(f"show port stats {port}")
        return {name: int(value) for name, value in re.findall(r"([RT][Xx]-[a-z]+):\s+(\d+)", text)}

    def close(self):
        if self.process.poll() is None:
            try:
                self.process.stdin.write(b"stop\nquit\n")
                self.process.stdin.flush()
                # It blocks in writing when nobody reads, so read until its end.
                self.process.communicate(timeout=20)
            except (BrokenPipeError, subprocess.TimeoutExpired):
                self.process.kill()
                self.process.wait()
        if self.log:
            self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def load_generator(pcap, sockets, core=1, capture=None, queue_size=256, mbufs=None, mbuf_size=None, log=None):
    """pcap → port 1 → system under test → port 2 → dropped (or written to `capture`, then the pcap plays once)."""
    source = f"net_pcap0,rx_pcap={pcap}"
    source += f",tx_pcap={capture}" if capture else ",infinite_rx=1"
    ports = [f"net_virtio_user{n},path={path},queues=1,queue_size={queue_size},mac=02:00:00:00:00:0{n + 1}"
             for n, path in enumerate(sockets)]
    options = ["--port-topology=chained", "--forward-mode=io", "--no-flush-rx", f"--txd={queue_size}",
               f"--rxd={queue_size}"]
    if mbufs:
        options.append(f"--total-num-mbufs={mbufs}")
    if mbuf_size:
        options.append(f"--mbuf-size={mbuf_size}")
    return Testpmd(f"mrgen{os.getpid()}", core, [source, *ports], options, log)
