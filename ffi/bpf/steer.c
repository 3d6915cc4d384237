// SPDX-License-Identifier: Apache-2.0
//
// Steers received packets either to the AF_XDP socket of their queue or on to the kernel.
//
// On a pod's veth everything is taken (take_all = 1). On an uplink only what the maps name is taken:
// a destination inside one of the prefixes (the longest match decides, so a longer prefix can give a part back
// to the kernel), or a destination (protocol, port). Everything else, ARP and neighbour discovery included, stays with the
// kernel. A queue without a socket leaves its packets to the kernel, too.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define MAX_PREFIXES 65536
#define MAX_PORTS 16384

struct prefix4 {
	__u32 length;
	__u8 address[4];
};

struct prefix6 {
	__u32 length;
	__u8 address[16];
};

// A destination port, in network order.
struct service {
	__u8 protocol;
	__u8 zero;
	__be16 port;
};

enum owner { KERNEL = 0, OURS = 1 };

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4);
	__type(value, __u32);
} prefixes4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6);
	__type(value, __u32);
} prefixes6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service);
	__type(value, __u32);
} services SEC(".maps");

// Set before loading; the verifier then removes the branch that is not taken.
const volatile __u8 take_all = 0;

// Set before loading where one program serves many interfaces: sockets are then found by the lower bits of the interface's
// index, too. A packet that meets a socket of another interface is dropped by the kernel (xsk_rcv_check).
const volatile __u32 slot_mask = 0;

static __always_inline int service_is_ours(void *l4, void *end, __u8 protocol)
{
	// TCP, UDP and SCTP all begin with source and destination port.
	__be16 *ports = l4;
	struct service key = { .protocol = protocol };

	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_SCTP)
		return 0;
	if ((void *)(ports + 2) > end)
		return 0;
	key.port = ports[1];
	return bpf_map_lookup_elem(&services, &key) != 0;
}

static __always_inline int ipv4_is_ours(struct iphdr *ip, void *end)
{
	struct prefix4 key = { .length = 32 };
	__u32 *owner;

	if ((void *)(ip + 1) > end)
		return 0;
	__builtin_memcpy(key.address, &ip->daddr, sizeof(key.address));
	owner = bpf_map_lookup_elem(&prefixes4, &key);
	if (owner)
		return *owner == OURS;
	// Only a first fragment has the ports: to keep a datagram together, all its fragments go to the kernel.
	if (ip->frag_off & bpf_htons(0x3fff))
		return 0;
	return service_is_ours((void *)ip + ip->ihl * 4, end, ip->protocol);
}

static __always_inline int ipv6_is_ours(struct ipv6hdr *ip, void *end)
{
	struct prefix6 key = { .length = 128 };
	__u32 *owner;

	if ((void *)(ip + 1) > end)
		return 0;
	__builtin_memcpy(key.address, &ip->daddr, sizeof(key.address));
	owner = bpf_map_lookup_elem(&prefixes6, &key);
	if (owner)
		return *owner == OURS;
	// A packet with extension headers is matched by its destination only.
	return service_is_ours(ip + 1, end, ip->nexthdr);
}

static __always_inline int is_ours(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = (void *)(long)context->data;

	if ((void *)(ethernet + 1) > end)
		return 0;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP))
		return ipv4_is_ours((void *)(ethernet + 1), end);
	if (ethernet->h_proto == bpf_htons(ETH_P_IPV6))
		return ipv6_is_ours((void *)(ethernet + 1), end);
	return 0;
}

SEC("xdp")
int steer(struct xdp_md *context)
{
	if (!take_all && !is_ours(context))
		return XDP_PASS;
	__u32 key = context->rx_queue_index;
	if (slot_mask)
		key = (key * (slot_mask + 1)) + (context->ingress_ifindex & slot_mask);
	// The lower bits of the flags are the verdict for a queue that has no socket (Linux 5.3).
	return bpf_redirect_map(&sockets, key, XDP_PASS);
}

char LICENSE[] SEC("license") = "Apache-2.0";
