#!/usr/bin/env python3
"""Checks a capture of the sink: every frame translated, every checksum right, every flow at one backend."""
import ipaddress
import struct
from collections import Counter

from mkpcap import PROTOCOLS, fold, ones_sum


def frames(path):
    with open(path, "rb") as file:
        data = file.read()
    at = 24
    while at < len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def parse(frame):
    """(source, destination, protocol, L4 bytes, TTL, header right?)"""
    if frame[12:14] == b"\x08\x00":
        total = struct.unpack_from("!H", frame, 16)[0]
        header = frame[14:34]
        return (ipaddress.ip_address(header[12:16]), ipaddress.ip_address(header[16:20]), header[9],
                frame[34:14 + total], header[8], fold(ones_sum(header)) == 0)
    length = struct.unpack_from("!H", frame, 18)[0]
    return (ipaddress.ip_address(frame[22:38]), ipaddress.ip_address(frame[38:54]), frame[20],
            frame[54:54 + length], frame[21], True)


def check(path, work):
    """Findings as a dict; 'faults' counts what must not be."""
    faults, backends, flows, ttls = Counter(), Counter(), {}, Counter()
    wanted = {ipaddress.ip_address(b) for b in work.backends}
    count = 0
    for frame in frames(path):
        if frame[12:14] not in (b"\x08\x00", b"\x86\xdd"):
            continue
        source, destination, protocol, segment, ttl, header_right = parse(frame)
        if protocol != PROTOCOLS[work.protocol]:
            continue  # neighbour discovery and the like
        count += 1
        sport, dport = struct.unpack_from("!HH", segment)
        pseudo = source.packed + destination.packed + struct.pack("!II", len(segment), protocol)
        faults["ip checksum"] += not header_right
        faults["l4 checksum"] += fold(ones_sum(pseudo) + ones_sum(segment)) != 0
        faults["destination"] += destination not in wanted
        faults["port"] += dport != work.target_port
        faults["source"] += source not in ipaddress.ip_network(work.clients)
        faults["mac"] += frame[:6] != bytes.fromhex(work.backend_mac.replace(":", ""))
        faults["affinity"] += flows.setdefault((source, sport), destination) != destination
        backends[str(destination)] += 1
        ttls[ttl] += 1
    return {"frames": count, "flows": len(flows), "backends": dict(backends), "ttl": dict(ttls),
            "faults": {name: n for name, n in faults.items() if n}}
