#!/usr/bin/env python3
"""Sends frames that no kernel would, from an interface, by AF_PACKET.

usage: frames.py garbage INTERFACE COUNT SEED     random bytes, and headers that lie
       frames.py spoof INTERFACE GATEWAY_MAC SOURCE DESTINATION COUNT [SOURCE_MAC]
       frames.py arp INTERFACE ADDRESS            asks who has it; prints the answering MAC
"""
import ipaddress
import random
import socket
import struct
import sys


def ones_sum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet_socket(interface):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((interface, 0))
    return sock


def mac_of(interface):
    with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
        return bytes.fromhex(file.read().strip().replace(":", ""))


def udp(source, destination, text):
    source, destination = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    segment = struct.pack("!HHHH", 4000, 4001, 8 + len(text), 0) + text
    pseudo = source.packed + destination.packed + struct.pack("!II", len(segment), 17)
    segment = segment[:6] + struct.pack("!H", ones_sum(pseudo + segment) or 0xFFFF) + segment[8:]
    if source.version == 4:
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, 17, 0, source.packed,
                           destination.packed)
        return b"\x08\x00" + head[:10] + struct.pack("!H", ones_sum(head)) + head[12:] + segment
    return b"\x86\xdd" + struct.pack("!IHBB16s16s", 6 << 28, len(segment), 17, 64, source.packed,
                                     destination.packed) + segment


def garbage(interface, count, seed):
    rng, sock, mine = random.Random(seed), packet_socket(interface), mac_of(interface)
    gateway = bytes.fromhex("024d52000001")
    types = [b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00", b"\x88\xa8", b"\x88\x47"]
    sound = [udp("10.77.0.10", "10.77.0.11", b"x" * 40), udp("fd00:77::a", "fd00:77::b", b"x" * 40)]
    for number in range(count):
        kind = number % 3
        if kind == 0:
            body = rng.choice(types) + rng.randbytes(rng.randrange(1, 1486))
        elif kind == 1:
            damaged = bytearray(rng.choice(sound))
            for _ in range(rng.randrange(1, 6)):
                damaged[rng.randrange(2, len(damaged))] = rng.randrange(256)
            body = bytes(damaged)
        else:
            whole = rng.choice(sound)
            body = whole[:rng.randrange(2, len(whole))]
        head = rng.choice([gateway, gateway, b"\xff" * 6, rng.randbytes(6)]) + rng.choice([mine, mine, rng.randbytes(6)])
        try:
            sock.send(head + body)
        except OSError:
            pass  # the queue of the interface is full: garbage more or less


def spoof(interface, gateway, source, destination, count, mac=None):
    sock = packet_socket(interface)
    mine = bytes.fromhex(mac.replace(":", "")) if mac else mac_of(interface)
    frame = bytes.fromhex(gateway.replace(":", "")) + mine + udp(source, destination, b"spoofed")
    for _ in range(int(count)):
        sock.send(frame)


def arp(interface, address):
    sock, mine = packet_socket(interface), mac_of(interface)
    target = ipaddress.ip_address(address).packed
    sock.settimeout(2)
    sock.send(b"\xff" * 6 + mine + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mine + bytes(4)
              + bytes(6) + target)
    while True:
        data = sock.recv(2048)
        if data[12:14] == b"\x08\x06" and data[20:22] == b"\0\x02" and data[28:32] == target:
            print(data[22:28].hex(":"))
            return


if __name__ == "__main__":
    if sys.argv[1] == "garbage":
        garbage(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "spoof":
        spoof(*sys.argv[2:])
    else:
        arp(*sys.argv[2:])
