// SPDX-License-Identifier: Apache-2.0
//
// What the programs' maps are asked by, and how the fragments of a datagram follow the first. `src/bpf_key.rs` makes the same keys.

#ifndef KEYS_H
#define KEYS_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_FRAGMENTS 8192

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff
#define IPV6_OFFSET 0xfff8

// Either family's; IPv4 as ::ffff:a.b.c.d (RFC 4291, section 2.5.5.2).
struct address {
	__be32 words[4];
};

// Where something is served.
struct endpoint {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 zero;
};

enum fragment { WHOLE, FIRST, LATER };

struct datagram {
	struct address source;
	struct address destination;
	__be32 id;
	__u32 protocol;
};

// Datagrams whose first fragment was taken for what only it shows: its ports.
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FRAGMENTS);
	__type(key, struct datagram);
	__type(value, __u32);
} fragments SEC(".maps");

static __always_inline void map_ipv4(struct address *to, __be32 address)
{
	to->words[0] = 0;
	to->words[1] = 0;
	to->words[2] = bpf_htonl(0xffff);
	to->words[3] = address;
}

// Whether a later fragment is one of a datagram that was taken.
static __always_inline int follows(const struct datagram *datagram)
{
	return bpf_map_lookup_elem(&fragments, datagram) != 0;
}

// A datagram's first fragment was taken, or not: then its number may have been another datagram's.
static __always_inline void note_first(const struct datagram *datagram, int taken)
{
	__u32 yes = 1;

	if (taken)
		bpf_map_update_elem(&fragments, datagram, &yes, BPF_ANY);
	else
		bpf_map_delete_elem(&fragments, datagram);
}

#endif
