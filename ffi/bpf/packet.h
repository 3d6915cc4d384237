// SPDX-License-Identifier: Apache-2.0
//
// What the decision needs to know of an IP packet of either family.

#ifndef PACKET_H
#define PACKET_H

#include "fragments.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

// Headers between IPv6's own and the transport's that are skipped; a packet with more stays with the kernel.
#define MOST_EXTENSIONS 6

// linux/icmp.h cannot be included here: it asks for the C library's headers.
#define ICMP_ECHO_REPLY 0
#define ICMP_UNREACHABLE 3
#define ICMP_ECHO_REQUEST 8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12

#define ICMP6_ECHO_REQUEST 128
#define ICMP6_ECHO_REPLY 129
#define ICMP6_FIRST_DISCOVERY 133
#define ICMP6_LAST_DISCOVERY 137

// Offset in the frame behind which no header is looked for.
#define FARTHEST 4096

// What stands behind the IP headers.
enum content {
	// Nothing that matters here, or cut off.
	OTHER,
	// TCP, UDP or SCTP: the ports are known.
	PORTS,
	// An ICMP echo request or reply: the identifier is in place of the port of the end that asked.
	ECHO_REQUEST,
	ECHO_REPLY,
	// An ICMP error: a packet is quoted at `quoted`.
	ERROR,
	// Neighbour or router discovery.
	DISCOVERY,
};

// Both families': the first eight bytes, of an echo.
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 identifier;
	__be16 sequence;
};

struct packet {
	struct address source;
	struct address destination;
	// 4 or 6.
	__u32 family;
	__be32 fragment_id;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol;
	enum content content;
	enum fragment fragment;
	// Offset of the packet that an ICMP error quotes, from the frame's start.
	__u32 quoted;
	// Offset of what stands behind the IP headers.
	__u32 transport;
};

// Functions that are not inlined are verified each by itself, whatever its arguments are: the verifier has to follow only
// few ways through the program.
#define APART __attribute__((noinline))

#ifdef OF_SKB

// What the program is given: a packet that is in a socket buffer already, in any number of pieces.
#define CONTEXT struct __sk_buff

// `name` is the `type` from `at` on, or null if there are not as many bytes.
#define LOOK(context, at, type, name)                                                                                         \
	type name##_bytes;                                                                                                    \
	type *name = (at) > FARTHEST || bpf_skb_load_bytes(context, at, &name##_bytes, sizeof(type)) ? 0 : &name##_bytes

#else

// What the program is given: a packet in the driver's memory. Its first piece holds all headers.
#define CONTEXT struct xdp_md

#define LOOK(context, at, type, name) type *name = look(context, at, sizeof(type))

static __always_inline void *look(CONTEXT *context, __u32 at, __u32 bytes)
{
	void *start = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;

	if (at > FARTHEST)
		return 0;
	return start + at + bytes <= end ? start + at : 0;
}

#endif

// The first bytes of an extension header.
struct extension {
	__u8 next;
	__u8 length;
	__be16 offset;
	__be32 id;
};

// Those of TCP, UDP and SCTP.
struct ports {
	__be16 source;
	__be16 destination;
};

static __always_inline void read_icmp4(struct packet *packet, const struct icmp *icmp, __u32 at)
{
	switch (icmp->type) {
	case ICMP_UNREACHABLE:
	case ICMP_TIME_EXCEEDED:
	case ICMP_PARAMETER_PROBLEM:
		packet->content = ERROR;
		packet->quoted = at + sizeof(*icmp);
		break;
	case ICMP_ECHO_REQUEST:
		packet->content = ECHO_REQUEST;
		packet->source_port = icmp->identifier;
		break;
	case ICMP_ECHO_REPLY:
		packet->content = ECHO_REPLY;
		packet->destination_port = icmp->identifier;
		break;
	}
}

static __always_inline void read_icmp6(struct packet *packet, const struct icmp *icmp, __u32 at)
{
	__u8 type = icmp->type;

	if (type < ICMP6_ECHO_REQUEST) {
		packet->content = ERROR;
		packet->quoted = at + sizeof(*icmp);
	} else if (type == ICMP6_ECHO_REQUEST) {
		packet->content = ECHO_REQUEST;
		packet->source_port = icmp->identifier;
	} else if (type == ICMP6_ECHO_REPLY) {
		packet->content = ECHO_REPLY;
		packet->destination_port = icmp->identifier;
	} else if (type >= ICMP6_FIRST_DISCOVERY && type <= ICMP6_LAST_DISCOVERY) {
		packet->content = DISCOVERY;
	}
}

// Reads the transport header at `at`.
static __always_inline void read_transport(CONTEXT *context, __u32 at, struct packet *packet)
{
	packet->content = OTHER;
	packet->transport = at;
	if (packet->fragment == LATER)
		return;
	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP || packet->protocol == IPPROTO_SCTP) {
		LOOK(context, at, struct ports, ports);
		if (!ports)
			return;
		packet->content = PORTS;
		packet->source_port = ports->source;
		packet->destination_port = ports->destination;
	} else if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6) {
		LOOK(context, at, struct icmp, icmp);
		if (!icmp)
			return;
		if (packet->protocol == IPPROTO_ICMP)
			read_icmp4(packet, icmp, at);
		else
			read_icmp6(packet, icmp, at);
	}
}

// Reads the IPv4 packet at `at`; 0 when there is none.
APART int read_ipv4(CONTEXT *context, __u32 at, struct packet *packet)
{
	LOOK(context, at, struct iphdr, ip);
	__u16 fragment;

	if (!packet || !ip || ip->version != 4 || ip->ihl < 5)
		return 0;
	map_ipv4(&packet->source, ip->saddr);
	map_ipv4(&packet->destination, ip->daddr);
	packet->family = 4;
	packet->protocol = ip->protocol;
	packet->fragment_id = ip->id;
	fragment = bpf_ntohs(ip->frag_off);
	packet->fragment = fragment & IP_OFFSET ? LATER : fragment & IP_MORE_FRAGMENTS ? FIRST : WHOLE;
	read_transport(context, at + ip->ihl * 4, packet);
	return 1;
}

// Reads the extension header of type `protocol` at `at`. Gives its length in bytes and, above the lowest 16 bits, the type of
// what follows; 0 when there is none.
APART __u32 read_extension(CONTEXT *context, __u32 at, __u32 protocol)
{
	LOOK(context, at, struct extension, header);

	if (!header)
		return 0;
	switch (protocol) {
	case IPPROTO_HOPOPTS:
	case IPPROTO_ROUTING:
	case IPPROTO_DSTOPTS:
		return (header->length + 1) * 8 | header->next << 16;
	case IPPROTO_AH:
		return (header->length + 2) * 4 | header->next << 16;
	case IPPROTO_FRAGMENT:
		return 8 | header->next << 16;
	}
	return 0;
}

// Reads the fragment header at `at`.
static __always_inline void read_fragment(CONTEXT *context, __u32 at, struct packet *packet)
{
	LOOK(context, at, struct extension, header);
	__u16 offset;

	if (!header)
		return;
	offset = bpf_ntohs(header->offset);
	packet->fragment_id = header->id;
	// Offset and flag both zero: an atomic fragment (RFC 6946), a packet like any other.
	packet->fragment = offset & IPV6_OFFSET ? LATER : offset & 1 ? FIRST : WHOLE;
}

// Reads the IPv6 packet at `at`; 0 when there is none.
APART int read_ipv6(CONTEXT *context, __u32 at, struct packet *packet)
{
	LOOK(context, at, struct ipv6hdr, ip);

	if (!packet || !ip || ip->version != 6)
		return 0;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->family = 6;
	packet->protocol = ip->nexthdr;
	packet->fragment = WHOLE;
	packet->fragment_id = 0;
	at += sizeof(*ip);
	for (int count = 0; count < MOST_EXTENSIONS; count++) {
		__u32 extension = read_extension(context, at, packet->protocol);

		if (!extension)
			break;
		if (packet->protocol == IPPROTO_FRAGMENT)
			read_fragment(context, at, packet);
		packet->protocol = extension >> 16;
		at += extension & 0xffff;
		// Behind the header of a later fragment is the middle of something.
		if (packet->fragment == LATER)
			break;
	}
	read_transport(context, at, packet);
	return 1;
}

#endif
