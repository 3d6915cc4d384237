// SPDX-License-Identifier: Apache-2.0
//
// The ways of an uplink that is received from behind the kernel's receive offload. What is claimed (claims.h) has two:
//
//  - TCP, also in a tunnel, and flows of which the kernel has put packets together: to a TAP that the data path reads, whole
//    (`millrace_take`, at the NIC's ingress);
//  - the rest, packet by packet, to the ring of a packet socket (`millrace_hear`, its filter). The socket gets a copy, before
//    `millrace_take` sees the packet and drops it.
//
// `millrace_give`, at the TAP's ingress, leads what the data path writes there to the NIC.
//
// Everything that is not claimed, ARP and neighbour discovery included, goes on as if there was no program.

#define OF_SKB

#include "claims.h"
#include "verdict.h"

// What a socket's filter answers: nothing of a packet, or all.
#define NOTHING 0
#define ALL (-1)

// Set before loading: the numbers of the TAP and of the NIC.
const volatile __u32 tap = 0;
const volatile __u32 nic = 0;

// Of linux/if_packet.h: what the host has sent to itself, as multicast. Packet sockets get nothing of it.
#define PACKET_LOOPBACK 5

enum way { UNDECIDED, TO_KERNEL, TO_RING, TO_TAP };

// What a packet socket's filter has decided of the packet that this CPU is about. The kernel shows each packet to the sockets first,
// and right after to the program at the ingress.
struct decided {
	__u32 way;
	__u32 len;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decided);
} latest SEC(".maps");

#define MAX_ROWS 4096

// A flow of which the kernel has put packets together that are not TCP's: senders on this machine hand them over so.
struct flow {
	struct address source;
	struct address destination;
	struct ports ports;
	__u32 protocol;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_ROWS);
	__type(key, struct flow);
	__type(value, __u32);
} rows SEC(".maps");

// Whether there has been any.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} has_rows SEC(".maps");

// The first of what is in a tunnel.
struct tunnelled {
	struct udp {
		struct ports ports;
		__be16 length;
		__be16 checksum;
	} udp;
	__u8 vxlan[8];
	struct ethhdr ethernet;
	// Of the IP header, as much as tells the protocol in either family.
	__u8 ip[10];
} __attribute__((packed));

static __always_inline int is_tcp(struct __sk_buff *context, const struct packet *packet)
{
	if (packet->protocol == IPPROTO_TCP)
		return 1;
	if (packet->content != PORTS || packet->protocol != IPPROTO_UDP ||
	    !is_service(&packet->destination, packet->protocol, packet->destination_port, TUNNEL))
		return 0;
	LOOK(context, packet->transport, struct tunnelled, inner);
	if (!inner)
		return 0;
	if (inner->ethernet.h_proto == bpf_htons(ETH_P_IP))
		return inner->ip[9] == IPPROTO_TCP;
	return inner->ethernet.h_proto == bpf_htons(ETH_P_IPV6) && inner->ip[6] == IPPROTO_TCP;
}

// Whether a packet comes with others of its flow, or follows such: it is not to overtake them.
static __always_inline int is_in_row(struct __sk_buff *context, const struct packet *packet)
{
	struct flow flow = { .source = packet->source, .destination = packet->destination, .protocol = packet->protocol };
	__u32 key = 0, yes = 1, *any = bpf_map_lookup_elem(&has_rows, &key);

	// Of a datagram in fragments only the first would be known.
	if (packet->fragment != WHOLE)
		return context->gso_size != 0;
	if (packet->content == PORTS) {
		flow.ports.source = packet->source_port;
		flow.ports.destination = packet->destination_port;
	}
	if (!context->gso_size)
		return any && *any && bpf_map_lookup_elem(&rows, &flow) != 0;
	bpf_map_update_elem(&rows, &flow, &yes, BPF_ANY);
	if (any)
		*any = 1;
	return 1;
}

static __always_inline enum way decide(struct __sk_buff *context)
{
	struct packet packet = {};

	// A frame with a VLAN tag belongs to the interface of that VLAN. Here the tag is no longer in the frame.
	if (context->vlan_present || !is_ours(context, &packet))
		return TO_KERNEL;
	return is_tcp(context, &packet) || is_in_row(context, &packet) ? TO_TAP : TO_RING;
}

SEC("socket")
int millrace_hear(struct __sk_buff *context)
{
	__u32 key = 0;
	struct decided *decided = bpf_map_lookup_elem(&latest, &key);
	enum way way = decide(context);

	if (decided) {
		decided->way = way;
		decided->len = context->len;
	}
	return way == TO_RING ? ALL : NOTHING;
}

SEC("classifier")
int millrace_take(struct __sk_buff *context)
{
	enum way way = UNDECIDED;
	struct decided *decided;
	__u32 key = 0;

	if (context->pkt_type == PACKET_LOOPBACK)
		return NEXT;
	// What `millrace_pass` has carried (shortcut.c) does not come here, and leaves what was decided of it: the next packet that the
	// sockets are shown takes its place.
	decided = bpf_map_lookup_elem(&latest, &key);
	if (decided && decided->len == context->len) {
		way = decided->way;
		decided->way = UNDECIDED;
	}
	if (way == UNDECIDED)
		way = decide(context);
	switch (way) {
	case TO_RING:
		return DROP;
	case TO_TAP:
		return bpf_redirect(tap, 0);
	default:
		return NEXT;
	}
}

SEC("classifier")
int millrace_give(struct __sk_buff *context)
{
	return bpf_redirect(nic, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
