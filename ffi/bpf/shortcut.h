// SPDX-License-Identifier: Apache-2.0
//
// What a shortcut is, and the maps that the programs know them by. `src/shortcut/layout.rs` makes the same.

#ifndef SHORTCUT_H
#define SHORTCUT_H

#include "keys.h"

#include <linux/if_ether.h>

#define MAX_SHORTCUTS 65536
#define MAX_INTERFACES 65536

struct macs {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
};

// One direction of a connection.
struct key {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	// The number of the interface that it arrives by.
	__u32 arrival;
	__u32 protocol;
};

// Both ends of a tunnel; none if `remote` is zero.
struct tunnel {
	__be32 local;
	__be32 remote;
	__be32 vni;
	__be16 port;
	// Of what leaves: the flow's mark.
	__be16 source_port;
};

// Bits of `how`.
#define TRANSLATED 1
#define KNOWN_SENDER 2

struct shortcut {
	// Nanoseconds of the monotonic clock.
	__u64 until;
	__u32 generation;
	// The number of the interface that it leaves by.
	__u32 out;
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	// Bytes of an IP packet that its way takes.
	__u16 mtu;
	__u16 how;
	// What it arrives with, behind a tunnel's headers if there are any: the source only of a known sender.
	struct macs arrives;
	struct macs leaves;
	struct tunnel from;
	struct tunnel to;
	// Of the outer frame of what leaves by a tunnel.
	struct macs outer;
	__u32 zero;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SHORTCUTS);
	__type(key, struct key);
	__type(value, struct shortcut);
} shortcuts SEC(".maps");

// The generation of shortcuts that are good.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} current SEC(".maps");

// The other end of an interface by that one's number: of a veth's end the TAP, and of the TAP that end. The kernel takes out what leads
// to an interface that goes.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} ends SEC(".maps");

// What an interface has carried past the data path.
struct carried {
	__u64 packets_in;
	__u64 bytes_in;
	__u64 packets_out;
	__u64 bytes_out;
	// Of those that came by it: what the kernel had no room to change.
	__u64 lost;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, MAX_INTERFACES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct carried);
} counts SEC(".maps");

#endif
