// SPDX-License-Identifier: Apache-2.0
//
// What the programs' maps are asked by. `src/bpf_key.rs` makes the same keys.

#ifndef KEYS_H
#define KEYS_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

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

static __always_inline void map_ipv4(struct address *to, __be32 address)
{
	to->words[0] = 0;
	to->words[1] = 0;
	to->words[2] = bpf_htonl(0xffff);
	to->words[3] = address;
}

#endif
