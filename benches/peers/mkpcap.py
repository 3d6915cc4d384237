#!/usr/bin/env python3
"""Writes a pcap of frames that a load generator plays in a circle.

Each flow is one source address and port towards one service (or several). The order of the flows is
shuffled with a fixed seed, so that neither caches nor prefetchers see a pattern and two runs see the same file.
"""
import argparse
import ipaddress
import random
import struct

IMIX = (60,) * 7 + (590,) * 4 + (1514,)
PROTOCOLS = {"udp": 17, "tcp": 6}


def ones_sum(data):
    """Unfolded one's complement sum of 16-bit words (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    return sum(struct.unpack(f"!{len(data) // 2}H", data))


def fold(total):
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def l4_segment(protocol, source, destination, sport, dport, length, tcp_flags):
    """TCP or UDP segment of `length` bytes with its checksum."""
    if protocol == "udp":
        header, offset = struct.pack("!HHHH", sport, dport, length, 0), 6
    else:
        header, offset = struct.pack("!HHIIBBHHH", sport, dport, 1, 1, 5 << 4, tcp_flags, 0xFFFF, 0, 0), 16
    segment = header + bytes(length - len(header))
    pseudo = source.packed + destination.packed + struct.pack("!II", PROTOCOLS[protocol], length)
    checksum = fold(ones_sum(pseudo) + ones_sum(segment))
    if protocol == "udp" and checksum == 0:
        checksum = 0xFFFF
    return segment[:offset] + struct.pack("!H", checksum) + segment[offset + 2:]


def frame(macs, protocol, source, destination, sport, dport, size, tcp_flags=0x10):
    """Ethernet frame of `size` bytes without FCS."""
    if source.version == 4:
        length = size - 14 - 20
        segment = l4_segment(protocol, source, destination, sport, dport, length, tcp_flags)
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + length, 0, 0, 64, PROTOCOLS[protocol], 0,
                           source.packed, destination.packed)
        head = head[:10] + struct.pack("!H", fold(ones_sum(head))) + head[12:]
        return macs + b"\x08\x00" + head + segment
    length = size - 14 - 40
    segment = l4_segment(protocol, source, destination, sport, dport, length, tcp_flags)
    head = struct.pack("!IHBB16s16s", 6 << 28, length, PROTOCOLS[protocol], 64, source.packed, destination.packed)
    return macs + b"\x86\xdd" + head + segment


def flow_source(prefix, index):
    """One (address, port) per flow: 32 ports an address, so that 1 Mi flows are 32 Ki clients."""
    address = prefix.network_address + 1 + (index >> 5)
    if address not in prefix:
        raise SystemExit(f"mkpcap: {prefix} is too small for flow {index}")
    return address, 1024 + (index & 31) * 1367


def write(path, frames):
    """A pcap of Ethernet frames."""
    with open(path, "wb", buffering=1 << 20) as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for count, data in enumerate(frames):
            out.write(struct.pack("<IIII", count // 1000000, count % 1000000, len(data), len(data)) + data)


def smallest(protocol, version):
    return max(60, 14 + (20 if version == 4 else 40) + (8 if protocol == "udp" else 20))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file")
    parser.add_argument("--flows", type=int, default=1024)
    parser.add_argument("--frames", type=int, help="frames in the file (default: one a flow)")
    parser.add_argument("--size", default="60", help="bytes without FCS, or 'imix'")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="udp")
    parser.add_argument("--syn", action="store_true", help="TCP segments are SYNs")
    parser.add_argument("--source", type=ipaddress.ip_network, default=ipaddress.ip_network("10.1.0.0/16"))
    parser.add_argument("--destination", type=ipaddress.ip_address, action="append",
                        help="may be repeated: flows take turns")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument("--source-mac", default="02:00:00:00:00:01")
    parser.add_argument("--destination-mac", default="02:4d:52:00:00:01")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    destinations = args.destination or [ipaddress.ip_address("10.96.0.10")]
    macs = bytes.fromhex((args.destination_mac + args.source_mac).replace(":", ""))
    sizes = IMIX if args.size == "imix" else (int(args.size),)
    flags = 0x02 if args.syn else 0x10

    rng = random.Random(args.seed)
    total = max(args.frames or args.flows, args.flows)
    order = [index % args.flows for index in range(total)]
    rng.shuffle(order)
    lowest = smallest(args.protocol, destinations[0].version)

    def frames():
        for flow in order:
            source, sport = flow_source(args.source, flow)
            size = max(lowest, rng.choice(sizes) if len(sizes) > 1 else sizes[0])
            yield frame(macs, args.protocol, source, destinations[flow % len(destinations)], sport, args.port, size, flags)

    write(args.file, frames())


if __name__ == "__main__":
    main()
