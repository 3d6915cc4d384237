// SPDX-License-Identifier: Apache-2.0
//
// Which packets of an interface that is shared with the kernel are claimed. The tests say the same slowly (tests/steering/rules.rs).

#ifndef CLAIMS_H
#define CLAIMS_H

#include "packet.h"

#define MAX_PREFIXES 131072
#define MAX_SERVICES 131072
#define MAX_ADDRESSES 4096

struct prefix {
	// Of what follows, in bits.
	__u32 length;
	// So that no prefix of one family holds addresses of the other.
	__u32 family;
	struct address address;
};

enum owner { KERNEL = 0, OURS = 1 };

// Bits of what a service entry stands for.
#define FRONTEND 1
#define TUNNEL 2

// An address of this node, in its two roles.
struct own {
	// Ports of masqueraded connections, in host order; none when `first` is above `last`.
	__u16 first;
	__u16 last;
	// Whether packets from `sources` to it are claimed.
	__u32 is_host;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} destinations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix);
	__type(value, __u32);
} sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SERVICES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u32);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_ADDRESSES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address);
	__type(value, struct own);
} addresses SEC(".maps");

static __always_inline int holds(void *prefixes, const struct address *address, __u32 family)
{
	struct prefix key = { .length = 32 + 128, .family = family, .address = *address };
	__u32 *owner = bpf_map_lookup_elem(prefixes, &key);

	return owner && *owner == OURS;
}

static __always_inline int is_service(const struct address *address, __u8 protocol, __be16 port, __u32 kinds)
{
	struct endpoint key = { .address = *address, .port = port, .protocol = protocol };
	__u32 *found = bpf_map_lookup_elem(&services, &key);

	return found && *found & kinds;
}

// Whether the addresses alone say that a packet is ours.
static __always_inline int claimed_by_address(const struct packet *packet, const struct own *own)
{
	if (holds(&destinations, &packet->destination, packet->family))
		return 1;
	return own && own->is_host && holds(&sources, &packet->source, packet->family);
}

static __always_inline int in_range(const struct own *own, __be16 port)
{
	__u16 number = bpf_ntohs(port);

	return own && own->first <= number && number <= own->last;
}

static __always_inline int claimed_by_port(const struct packet *packet, const struct own *own)
{
	if (packet->content == ECHO_REPLY)
		return in_range(own, packet->destination_port);
	if (packet->content != PORTS)
		return 0;
	if (in_range(own, packet->destination_port))
		return 1;
	return is_service(&packet->destination, packet->protocol, packet->destination_port, FRONTEND | TUNNEL);
}

// Whether a packet would be ours that goes the other way than the one that an ICMP error quotes.
static __always_inline int claimed_by_quote(const struct packet *quoted)
{
	struct own *own = bpf_map_lookup_elem(&addresses, &quoted->source);

	if (holds(&destinations, &quoted->source, quoted->family))
		return 1;
	if (own && own->is_host && holds(&sources, &quoted->destination, quoted->family))
		return 1;
	if (quoted->content == ECHO_REQUEST)
		return in_range(own, quoted->source_port);
	if (quoted->content != PORTS)
		return 0;
	if (in_range(own, quoted->source_port))
		return 1;
	if (is_service(&quoted->source, quoted->protocol, quoted->source_port, FRONTEND))
		return 1;
	// What we send through a tunnel goes to its port, from any.
	return quoted->protocol == IPPROTO_UDP &&
	       is_service(&quoted->source, quoted->protocol, quoted->destination_port, TUNNEL);
}

// The first fragment of a datagram decides; the others follow it.
static __always_inline int claimed_with_datagram(const struct packet *packet, const struct own *own)
{
	struct datagram key = {
		.source = packet->source,
		.destination = packet->destination,
		.id = packet->fragment_id,
		// IPv6 knows a datagram without it (RFC 8200, section 4.5): only the first fragment may show what it is.
		.protocol = packet->family == 4 ? packet->protocol : 0,
	};
	int claimed;

	if (packet->fragment == LATER)
		return follows(&key);
	claimed = claimed_by_port(packet, own);
	note_first(&key, claimed);
	return claimed;
}

static __always_inline int is_claimed(const struct packet *packet)
{
	struct own *own;

	if (packet->content == DISCOVERY)
		return 0;
	own = bpf_map_lookup_elem(&addresses, &packet->destination);
	if (claimed_by_address(packet, own))
		return 1;
	if (packet->fragment != WHOLE)
		return claimed_with_datagram(packet, own);
	return claimed_by_port(packet, own);
}

static __always_inline int read(CONTEXT *context, __u32 at, int is_ipv6, struct packet *packet)
{
	return is_ipv6 ? read_ipv6(context, at, packet) : read_ipv4(context, at, packet);
}

// Whether the frame is claimed. Its IP packet is then in `packet`.
static __always_inline int is_ours(CONTEXT *context, struct packet *packet)
{
	LOOK(context, 0, struct ethhdr, ethernet);
	struct packet quoted = {};
	int is_ipv6;

	if (!ethernet)
		return 0;
	// A frame with a VLAN tag belongs to the interface of that VLAN.
	is_ipv6 = ethernet->h_proto == bpf_htons(ETH_P_IPV6);
	if (!is_ipv6 && ethernet->h_proto != bpf_htons(ETH_P_IP))
		return 0;
	if (!read(context, sizeof(*ethernet), is_ipv6, packet))
		return 0;
	if (packet->content == ERROR && read(context, packet->quoted, is_ipv6, &quoted) && claimed_by_quote(&quoted))
		return 1;
	return is_claimed(packet);
}

#endif
