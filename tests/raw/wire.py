#!/usr/bin/env python3
"""Watches the TCP connections of one port on an interface, and puts segments of its own into the latest of them.

usage: wire.py INTERFACE PORT
Prints `ready`, then answers lines on standard input:
  segment   sends data far above the receiver's window        → sent
  reset     sends an RST far above the receiver's window      → sent
  ack       acknowledges data that was never sent             → sent
  report    what was seen, own segments left out              → a JSON object
"""
import json
import select
import socket
import struct
import sys

from frames import ones_sum, packet_socket

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
FAR = 0x20000000
MARK = b"put in by hand"


def parse(frame):
    """(addresses, ports, sequence number, acknowledged, flags, payload) of a TCP segment, else nothing."""
    kind = frame[12:14]
    if kind == b"\x08\x00" and frame[23] == 6:
        head, addresses, end = 14 + (frame[14] & 15) * 4, frame[26:34], 14 + struct.unpack_from("!H", frame, 16)[0]
    elif kind == b"\x86\xdd" and frame[20] == 6:
        head, addresses, end = 54, frame[22:54], 54 + struct.unpack_from("!H", frame, 18)[0]
    else:
        return None
    source, destination, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", frame, head)
    payload = frame[head + (offset >> 4) * 4:end]
    return addresses, (source, destination), sequence, acknowledged, flags, payload


def build(last, skip, acknowledge, flags, payload):
    """A frame like the last one of this end, `skip` bytes ahead."""
    ethernet, (addresses, ports, sequence, acknowledged, _, _) = last
    tcp = struct.pack("!HHIIBBHHH", *ports, (sequence + skip) & 0xFFFFFFFF, (acknowledged + acknowledge) & 0xFFFFFFFF,
                      0x50, flags, 1024, 0, 0) + payload
    pseudo = addresses + struct.pack("!II", len(tcp), 6)
    tcp = tcp[:16] + struct.pack("!H", ones_sum(pseudo + tcp)) + tcp[18:]
    if len(addresses) == 8:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + addresses
        ip = ip[:10] + struct.pack("!H", ones_sum(ip)) + ip[12:]
    else:
        ip = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + addresses
    return ethernet + ip + tcp


class Watcher:
    def __init__(self, interface, port):
        self.socket, self.port = packet_socket(interface), port
        self.last = None
        self.seen = {"resets": 0, "injected": 0, "segments": 0}

    def take(self):
        frame, where = self.socket.recvfrom(65536)
        segment = parse(frame)
        if segment is None or self.port not in segment[1]:
            return
        outgoing = where[2] == OUTGOING
        self.seen["segments"] += 1
        self.seen["resets"] += bool(segment[4] & RST)
        self.seen["injected"] += not outgoing and segment[5] == MARK
        if outgoing and not segment[4] & (RST | SYN):
            advanced = (segment[2] + len(segment[5])) & 0xFFFFFFFF
            self.last = frame[:14], (*segment[:2], advanced, *segment[3:])

    def drain(self, seconds):
        while select.select([self.socket], [], [], seconds)[0]:
            self.take()

    def obey(self, command):
        if command == "report":
            self.drain(0.1)
            return json.dumps(self.seen)
        self.drain(0)
        shapes = {
            "segment": (FAR, 0, PSH | ACK, MARK),
            "reset": (FAR, 0, RST | ACK, b""),
            "ack": (0, FAR, ACK, b""),
        }
        self.socket.send(build(self.last, *shapes[command]))
        return "sent"

    def run(self):
        print("ready", flush=True)
        while True:
            readable = select.select([self.socket, sys.stdin.buffer], [], [])[0]
            if self.socket in readable:
                self.take()
            else:
                line = sys.stdin.buffer.raw.readline()
                if not line:
                    return
                print(self.obey(line.decode().strip()), flush=True)


if __name__ == "__main__":
    Watcher(sys.argv[1], int(sys.argv[2])).run()
