#!/usr/bin/env python3
"""Looks at every frame on an interface, as its kernel sees it: whole frames with their offload state (PACKET_VNET_HDR).

usage: judge.py INTERFACE
Prints `ready`; answers each line on standard input with a JSON object of what was seen since the last one:
  frames, partial, gso, largest: a pair each, of what came in and what went out
  checked: how many checksums were looked at; wrong: the first few that are not right, in words
"""
import json
import select
import socket
import struct
import sys

SOL_PACKET, PACKET_VNET_HDR, ETH_P_ALL = 263, 15, 3
SO_RCVBUFFORCE = 33
OUTGOING = 4  # PACKET_OUTGOING, linux/if_packet.h
NEEDS_CSUM = 1  # VIRTIO_NET_HDR_F_NEEDS_CSUM, linux/virtio_net.h
HEADER = 10
NAMES = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6"}
PLACES = {1: 2, 6: 16, 17: 6, 58: 2}


def folded(data):
    """The ones' complement sum: 0xffff and 0 are the same."""
    return int.from_bytes(data + b"\0" * (len(data) & 1), "big") % 0xFFFF


def layers(frame):
    """(protocol, addresses, layer 4's start and end) of an IP packet that is no fragment, and whether its header is right."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        start, end = 14 + (frame[14] & 15) * 4, 14 + struct.unpack_from("!H", frame, 16)[0]
        right = folded(frame[14:start]) == 0
        if struct.unpack_from("!H", frame, 20)[0] & 0x3FFF:
            return None, right
        return (frame[23], frame[26:34], start, end), right
    if kind == b"\x86\xdd":
        return (frame[20], frame[22:54], 54, 54 + struct.unpack_from("!H", frame, 18)[0]), True
    return None, True


class Judge:
    def __init__(self, interface):
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.bind((interface, ETH_P_ALL))
        self.forget()

    def forget(self):
        self.seen = {"frames": [0, 0], "partial": [0, 0], "gso": [0, 0], "largest": [0, 0], "checked": 0, "wrong": []}

    def take(self):
        data, address = self.socket.recvfrom(1 << 17)
        way, (flags, gso), frame = int(address[2] == OUTGOING), data[:2], data[HEADER:]
        self.seen["frames"][way] += 1
        self.seen["partial"][way] += flags & NEEDS_CSUM
        self.seen["gso"][way] += gso != 0
        self.seen["largest"][way] = max(self.seen["largest"][way], len(frame))
        packet, right = layers(frame)
        if not right:
            self.blame(way, frame, "IPv4 header")
        if packet:
            self.check(way, frame, packet, flags & NEEDS_CSUM)

    def check(self, way, frame, packet, partial):
        protocol, addresses, start, end = packet
        if protocol not in PLACES or (protocol == 17 and len(addresses) == 8 and frame[start + 6:start + 8] == b"\0\0"):
            return
        self.seen["checked"] += 1
        pseudo = b"" if protocol == 1 else addresses + struct.pack("!II", end - start, protocol)
        if end > len(frame):
            self.blame(way, frame, f"{NAMES[protocol]}, cut off")
        elif partial:
            at = start + PLACES[protocol]
            # Whoever finishes it adds the segment to what stands there.
            if folded(frame[at:at + 2]) != folded(pseudo):
                self.blame(way, frame, f"{NAMES[protocol]}, partial")
        elif folded(pseudo + frame[start:end]) != 0:
            self.blame(way, frame, NAMES[protocol])

    def blame(self, way, frame, what):
        if len(self.seen["wrong"]) < 5:
            self.seen["wrong"].append(f"{what}, {('in', 'out')[way]}, {len(frame)} bytes: {frame[:80].hex()}")


def main():
    judge = Judge(sys.argv[1])
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([judge.socket, sys.stdin], [], [])
        if judge.socket in ready:
            judge.take()
        elif sys.stdin in ready:
            if not sys.stdin.readline():
                return
            print(json.dumps(judge.seen), flush=True)
            judge.forget()


if __name__ == "__main__":
    main()
