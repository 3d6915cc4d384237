#!/usr/bin/env python3
"""SCTP without the kernel's help, on raw sockets: an INIT is answered by an INIT ACK, checksums (CRC32c) verified.

usage: sctp.py serve PORT NAME                    answers with its name and the client's address until it is killed
       sctp.py ask ADDRESS PORT SECONDS [SOURCE]  prints the answer. Without one it fails and says `refused` or
                                                  `silence`; answers with a wrong checksum do not count
"""
import ipaddress
import os
import select
import socket
import struct
import sys

IPPROTO_SCTP = 132
INIT, INIT_ACK = 1, 2


def crc32c(data):
    """RFC 9260, appendix A."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def packet(source, destination, tag, kind, text):
    value = struct.pack("!IIHHI", 0x12345678, 65535, 1, 1, 1) + text
    chunk = struct.pack("!BBH", kind, 0, 4 + len(value)) + value
    chunk += bytes(-len(chunk) % 4)
    head = struct.pack("!HHI", source, destination, tag)
    crc = crc32c(head + bytes(4) + chunk)
    return head + struct.pack("<I", crc) + chunk


def parse(data):
    """(source, destination, kind, text), or nothing if the checksum is wrong."""
    if len(data) < 32 or crc32c(data[:8] + bytes(4) + data[12:]) != struct.unpack_from("<I", data, 8)[0]:
        return None
    source, destination = struct.unpack_from("!HH", data)
    kind, _, length = struct.unpack_from("!BBH", data, 12)
    return source, destination, kind, data[32:12 + length]


def raw(family):
    return socket.socket(family, socket.SOCK_RAW, IPPROTO_SCTP)


def payload(family, data):
    # A raw IPv4 socket hands out the IP header as well, an IPv6 one does not.
    return data[(data[0] & 15) * 4:] if family == socket.AF_INET else data


def serve(port):
    name = sys.argv[3] if len(sys.argv) > 3 else "?"
    sockets = {raw(family): family for family in (socket.AF_INET, socket.AF_INET6)}
    print("ready", flush=True)
    while True:
        for sock in select.select(list(sockets), [], [])[0]:
            data, peer = sock.recvfrom(65536)
            found = parse(payload(sockets[sock], data))
            if found and found[1] == port and found[2] == INIT:
                address = ipaddress.ip_address(peer[0])
                client = f"{address}:{found[0]}" if address.version == 4 else f"[{address}]:{found[0]}"
                answer = packet(port, found[0], 0x12345678, INIT_ACK, f"{name} {client}".encode())
                sock.sendto(answer, (peer[0], 0))


def ask(address, port, seconds, source=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = raw(family)
    sock.settimeout(seconds)
    local = 20000 + os.getpid() % 40000
    if source:
        sock.bind((source, 0))
    sock.connect((address, 0))
    sock.send(packet(local, port, 0, INIT, b"x"))
    while True:
        found = parse(payload(family, sock.recv(65536)))
        if found and found[:3] == (port, local, INIT_ACK):
            print(found[3].decode())
            return


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        try:
            ask(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), *sys.argv[5:])
        except ConnectionRefusedError:
            sys.exit("refused")
        except TimeoutError:
            sys.exit("silence")
