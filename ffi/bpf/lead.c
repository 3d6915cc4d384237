// SPDX-License-Identifier: Apache-2.0
//
// Leads the host's packets to frontends that are at no cluster address to the host's leg: `millrace_lead` is at the egress of
// the loopback interface, where the kernel keeps what the host sends to itself, and of the NICs by which it sends the rest;
// `millrace_back` sees what comes back by the leg.
//
// Whatever cannot be read stays where it is.

#include "batch.h"
#include "fragments.h"
#include "verdict.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define MAX_FRONTENDS 131072

// linux/socket.h has it for the kernel only.
#define AF_PACKET 17

// The loopback interface of every network namespace has this number (LOOPBACK_IFINDEX, include/net/net_namespace.h).
#define LOOPBACK 1

struct fragment_header {
	__u8 next;
	__u8 reserved;
	__be16 offset;
	__be32 id;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_FRONTENDS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct endpoint);
	__type(value, __u32);
} frontends SEC(".maps");

// Set before loading: the leg's number, and the MAC address of the router behind it.
const volatile __u32 leg = 0;
const volatile __u8 gateway[ETH_ALEN] = {};

// Whether the destination's port, at `at`, is a frontend's.
static __always_inline int is_frontend(struct __sk_buff *skb, __u32 at, const struct datagram *datagram)
{
	struct endpoint key = { .address = datagram->destination, .protocol = datagram->protocol };

	if (key.protocol != IPPROTO_TCP && key.protocol != IPPROTO_UDP && key.protocol != IPPROTO_SCTP)
		return 0;
	// All of them begin with source and destination port.
	if (bpf_skb_load_bytes(skb, at + 2, &key.port, sizeof(key.port)))
		return 0;
	return bpf_map_lookup_elem(&frontends, &key) != 0;
}

static __always_inline int is_led(struct __sk_buff *skb, __u32 at, struct datagram *datagram, enum fragment fragment)
{
	int led;

	if (fragment == LATER)
		return follows(datagram);
	led = is_frontend(skb, at, datagram);
	if (fragment == FIRST)
		note_first(datagram, led);
	return led;
}

static __always_inline int is_led4(struct __sk_buff *skb)
{
	struct datagram datagram = {};
	enum fragment fragment;
	struct iphdr ip;
	__u16 offset;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return 0;
	map_ipv4(&datagram.source, ip.saddr);
	map_ipv4(&datagram.destination, ip.daddr);
	datagram.id = ip.id;
	datagram.protocol = ip.protocol;
	offset = bpf_ntohs(ip.frag_off);
	fragment = offset & IP_OFFSET ? LATER : offset & IP_MORE_FRAGMENTS ? FIRST : WHOLE;
	return is_led(skb, ETH_HLEN + ip.ihl * 4, &datagram, fragment);
}

static __always_inline int is_led6(struct __sk_buff *skb)
{
	__u32 at = ETH_HLEN + sizeof(struct ipv6hdr);
	enum fragment fragment = WHOLE;
	struct datagram datagram = {};
	struct fragment_header part;
	struct ipv6hdr ip;
	__u16 offset;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) || ip.version != 6)
		return 0;
	__builtin_memcpy(&datagram.source, &ip.saddr, sizeof(datagram.source));
	__builtin_memcpy(&datagram.destination, &ip.daddr, sizeof(datagram.destination));
	datagram.protocol = ip.nexthdr;
	// Of extension headers the host itself puts only this one before a connection's packets.
	if (ip.nexthdr == IPPROTO_FRAGMENT) {
		if (bpf_skb_load_bytes(skb, at, &part, sizeof(part)))
			return 0;
		datagram.protocol = part.next;
		datagram.id = part.id;
		offset = bpf_ntohs(part.offset);
		fragment = offset & IPV6_OFFSET ? LATER : offset & 1 ? FIRST : WHOLE;
		at += sizeof(part);
	}
	return is_led(skb, at, &datagram, fragment);
}

SEC("classifier")
int millrace_lead(struct __sk_buff *skb)
{
	struct bpf_sock *sender = skb->sk;
	__u8 router[ETH_ALEN];
	int led = 0;

	// What a packet socket sends knows its way: the data path sends large frames of an uplink by one, and others by the batch.
	if (sender ? sender->family == AF_PACKET : skb->cb[HANDED_AT] == HANDED)
		return NEXT;
	if (skb->protocol == bpf_htons(ETH_P_IP))
		led = is_led4(skb);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		led = is_led6(skb);
	if (!led)
		return NEXT;
	for (int i = 0; i < ETH_ALEN; i++)
		router[i] = gateway[i];
	if (bpf_skb_store_bytes(skb, 0, router, sizeof(router), 0))
		return NEXT;
	return bpf_redirect(leg, 0);
}

// What has the IPv6 loopback address is taken from the loopback interface only (ip6_rcv_core, net/ipv6/ip6_input.c).
SEC("classifier")
int millrace_back(struct __sk_buff *skb)
{
	__u8 nobody[2 * ETH_ALEN] = {}, from[ETH_ALEN];
	struct ipv6hdr ip;

	// Only the router speaks for the host's frontends; what others send by a NIC keeps its sender's address.
	if (bpf_skb_load_bytes(skb, ETH_ALEN, from, sizeof(from)))
		return NEXT;
	for (int i = 0; i < ETH_ALEN; i++)
		if (from[i] != gateway[i])
			return NEXT;
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return NEXT;
	if (ip.saddr.in6_u.u6_addr32[0] || ip.saddr.in6_u.u6_addr32[1] || ip.saddr.in6_u.u6_addr32[2] ||
	    ip.saddr.in6_u.u6_addr32[3] != bpf_htonl(1))
		return NEXT;
	// That interface's own MAC address.
	if (bpf_skb_store_bytes(skb, 0, nobody, sizeof(nobody), 0))
		return NEXT;
	return bpf_redirect(LOOPBACK, BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Apache-2.0";
