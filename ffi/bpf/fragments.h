// SPDX-License-Identifier: Apache-2.0
//
// How the fragments of a datagram follow the first.

#ifndef FRAGMENTS_H
#define FRAGMENTS_H

#include "keys.h"

#define MAX_FRAGMENTS 8192

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
