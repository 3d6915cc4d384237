#!/usr/bin/env python3
"""Sends VXLAN packets that no honest peer would, by a UDP socket.

usage: tunnel.py TO PORT VNI INNER_DESTINATION_MAC INNER_SOURCE INNER_DESTINATION COUNT
The inner packet is UDP from port 7 to port 4001, IPv4.
"""
import ipaddress
import socket
import struct
import sys

from frames import ones_sum


def inner(mac, source, destination):
    source, destination = (ipaddress.IPv4Address(text).packed for text in (source, destination))
    payload = b"from nowhere"
    udp = struct.pack("!HHHH", 7, 4001, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + source + destination
    head = head[:10] + struct.pack("!H", ones_sum(head)) + head[12:]
    return bytes.fromhex(mac.replace(":", "")) + bytes.fromhex("020000000001") + b"\x08\x00" + head + udp


def main():
    to, port, vni, mac, source, destination, count = sys.argv[1:]
    packet = struct.pack("!II", 0x08000000, int(vni) << 8) + inner(mac, source, destination)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for _ in range(int(count)):
        sock.sendto(packet, (to, int(port)))


if __name__ == "__main__":
    main()
