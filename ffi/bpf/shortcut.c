// SPDX-License-Identifier: Apache-2.0
//
// Established TCP connections and UDP flows between interfaces that the kernel has, past the data path: whole, and without a copy.
//
//  - `millrace_leave`, at the node's end of a pod's veth: what has a shortcut takes it, all else goes to the pod's TAP, which the
//    data path reads;
//  - `millrace_enter`, at that TAP's ingress: what the data path writes goes to the pod;
//  - `millrace_pass`, at an uplink's ingress: what has a shortcut and is TCP takes it, all else goes on.
//
// A shortcut says for one direction of a connection what the data path does to its packets. It is good for some seconds, and as
// long as the tables stay what they were: the next packet then goes the long way, where it is seen. So does whatever opens or ends a
// connection, and ends its shortcuts; and whatever the data path would answer, cut or look at.

#include "shortcut.h"
#include "verdict.h"

#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

// Of linux/if_packet.h: to this interface's MAC address.
#define PACKET_HOST 0

// Of newer headers than Debian 12's.
#define DECAP_TO_IPV6 (1ULL << 8)
#define CSUM_OF_IPV6 (1ULL << 7)

// Offset of an untagged frame's IP header, and of that in a tunnel over IPv4.
#define PLAIN ETH_HLEN
#define OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr) + sizeof(struct vxlan) + ETH_HLEN)
#define TUNNELLED (ETH_HLEN + OVERHEAD)

// RFC 7348, section 5: the identifier is valid.
#define VXLAN_FLAGS 0x08000000

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

// The bits of IP's traffic class that say whether congestion was met (RFC 3168).
#define ECN 3

#define DONT_FRAGMENT 0x4000
#define TTL 64

struct vxlan {
	__be32 flags;
	// The identifier, in the upper 24 bits.
	__be32 vni;
};

// Where TCP's header says how long it is, and then what it is for; and of both protocols, where the checksum is.
#define TCP_OFFSET 12
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6

// What was read of a packet.
struct packet {
	struct key key;
	struct macs macs;
	// Of its IP header, and bytes of that.
	__u32 at;
	__u32 ip_len;
	// Bytes of its TCP or UDP header.
	__u32 l4_len;
	__u32 is_ipv6;
	// Of TCP.
	__u8 flags;
	// Of the packet and of the tunnel's.
	__u8 ecn;
	__u8 outer_ecn;
	struct tunnel from;
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
};

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline int read_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	struct iphdr *ip = &packet->ip.v4;

	if (bpf_skb_load_bytes(skb, packet->at, ip, sizeof(*ip)))
		return 0;
	if (ip->version != 4 || ip->ihl != 5 || ip->ttl <= 1)
		return 0;
	if (ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET))
		return 0;
	map_ipv4(&packet->key.source, ip->saddr);
	map_ipv4(&packet->key.destination, ip->daddr);
	packet->key.protocol = ip->protocol;
	packet->ip_len = sizeof(*ip);
	packet->ecn = ip->tos & ECN;
	return 1;
}

static __always_inline int read_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	struct ipv6hdr *ip = &packet->ip.v6;

	if (bpf_skb_load_bytes(skb, packet->at, ip, sizeof(*ip)))
		return 0;
	if (ip->version != 6 || ip->hop_limit <= 1)
		return 0;
	__builtin_memcpy(&packet->key.source, &ip->saddr, sizeof(packet->key.source));
	__builtin_memcpy(&packet->key.destination, &ip->daddr, sizeof(packet->key.destination));
	packet->key.protocol = ip->nexthdr;
	packet->ip_len = sizeof(*ip);
	packet->is_ipv6 = 1;
	packet->ecn = ip->flow_lbl[0] >> 4 & ECN;
	return 1;
}

// Reads the TCP or UDP packet whose Ethernet header ends at `packet->at`; 0 when it is none, or has what is seldom.
static __always_inline int read(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		__u8 offset;
		__u8 flags;
	} tcp;
	struct ethhdr link;
	__u32 l4;

	if (bpf_skb_load_bytes(skb, packet->at - ETH_HLEN, &link, sizeof(link)))
		return 0;
	__builtin_memcpy(&packet->macs, &link, sizeof(packet->macs));
	if (link.h_proto == bpf_htons(ETH_P_IP)) {
		if (!read_ipv4(skb, packet))
			return 0;
	} else if (link.h_proto != bpf_htons(ETH_P_IPV6) || !read_ipv6(skb, packet)) {
		return 0;
	}
	l4 = packet->at + packet->ip_len;
	packet->key.arrival = skb->ifindex;
	if (bpf_skb_load_bytes(skb, l4, &packet->key.source_port, 2 * sizeof(packet->key.source_port)))
		return 0;
	packet->l4_len = sizeof(struct udphdr);
	packet->flags = TCP_ACK;
	if (packet->key.protocol == IPPROTO_UDP)
		return 1;
	if (packet->key.protocol != IPPROTO_TCP || bpf_skb_load_bytes(skb, l4 + TCP_OFFSET, &tcp, sizeof(tcp)))
		return 0;
	packet->l4_len = (tcp.offset >> 4) * 4;
	packet->flags = tcp.flags;
	return 1;
}

// Whether the frame is one of VXLAN over IPv4: then what is inside begins at a known place.
static __always_inline int read_tunnel(struct __sk_buff *skb, struct packet *packet)
{
	struct {
		struct ethhdr link;
		struct iphdr ip;
		struct udphdr udp;
		struct vxlan vxlan;
	} __attribute__((packed)) outer;

	if (bpf_skb_load_bytes(skb, 0, &outer, sizeof(outer)))
		return 0;
	if (outer.link.h_proto != bpf_htons(ETH_P_IP) || outer.ip.version != 4 || outer.ip.ihl != 5)
		return 0;
	if (outer.ip.protocol != IPPROTO_UDP || outer.ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET))
		return 0;
	if (outer.vxlan.flags != bpf_htonl(VXLAN_FLAGS))
		return 0;
	packet->outer_ecn = outer.ip.tos & ECN;
	packet->from.local = outer.ip.daddr;
	packet->from.remote = outer.ip.saddr;
	packet->from.vni = outer.vxlan.vni;
	packet->from.port = outer.udp.dest;
	return 1;
}

static __always_inline int is_same_mac(const __u8 *one, const __u8 *other)
{
	for (int i = 0; i < ETH_ALEN; i++)
		if (one[i] != other[i])
			return 0;
	return 1;
}

// Whether a packet arrives as its connection's do.
static __always_inline int is_expected(const struct packet *packet, const struct shortcut *shortcut)
{
	const struct tunnel *from = &packet->from, *known = &shortcut->from;

	if (!is_same_mac(packet->macs.destination, shortcut->arrives.destination))
		return 0;
	if (shortcut->how & KNOWN_SENDER && !is_same_mac(packet->macs.source, shortcut->arrives.source))
		return 0;
	// What routers say of congestion is for the data path to pass on.
	if (from->remote && packet->outer_ecn != packet->ecn)
		return 0;
	return from->remote == known->remote && from->local == known->local && from->vni == known->vni &&
	       from->port == known->port;
}

static __always_inline int fits(struct __sk_buff *skb, const struct packet *packet, const struct shortcut *shortcut)
{
	__u32 len = skb->len - packet->at, headers = packet->ip_len + packet->l4_len;

	// The outer headers have words for no more.
	if (shortcut->to.remote && len + OVERHEAD > 65535)
		return 0;
	return (skb->gso_size ? headers + skb->gso_size : len) <= shortcut->mtu;
}

// Both directions are seen again from now on.
static __always_inline void end(const struct key *key, const struct shortcut *shortcut)
{
	struct key back = {
		.source = shortcut->destination,
		.destination = shortcut->source,
		.source_port = shortcut->destination_port,
		.destination_port = shortcut->source_port,
		.arrival = shortcut->out,
		.protocol = key->protocol,
	};

	bpf_map_delete_elem(&shortcuts, &back);
	bpf_map_delete_elem(&shortcuts, key);
}

// The shortcut of a packet, if it may take it.
static __always_inline struct shortcut *find(struct __sk_buff *skb, struct packet *packet)
{
	struct shortcut *shortcut = bpf_map_lookup_elem(&shortcuts, &packet->key);
	__u32 first = 0, *generation = bpf_map_lookup_elem(&current, &first);

	if (!shortcut || !generation)
		return 0;
	if ((packet->flags & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) != TCP_ACK) {
		end(&packet->key, shortcut);
		return 0;
	}
	if (shortcut->generation != *generation || shortcut->until < bpf_ktime_get_coarse_ns())
		return 0;
	return is_expected(packet, shortcut) && fits(skb, packet, shortcut) ? shortcut : 0;
}

static __always_inline void count(__u32 from, __u32 to, __u32 len)
{
	struct carried *carried = bpf_map_lookup_elem(&counts, &from);

	if (carried) {
		carried->packets_in++;
		carried->bytes_in += len;
	}
	carried = bpf_map_lookup_elem(&counts, &to);
	if (carried) {
		carried->packets_out++;
		carried->bytes_out += len;
	}
}

static __always_inline int forward_ipv4(struct __sk_buff *skb, const struct packet *packet, const struct shortcut *shortcut)
{
	struct iphdr before = packet->ip.v4, now;
	__u32 sum;

	before.check = 0;
	now = before;
	now.ttl--;
	now.saddr = shortcut->source.words[3];
	now.daddr = shortcut->destination.words[3];
	// A wrong checksum stays wrong.
	sum = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&now, sizeof(now), (__u16)~packet->ip.v4.check);
	now.check = ~fold(sum);
	return !bpf_skb_store_bytes(skb, PLAIN, &now, sizeof(now), 0);
}

static __always_inline int forward_ipv6(struct __sk_buff *skb, const struct packet *packet, const struct shortcut *shortcut)
{
	struct {
		struct address source;
		struct address destination;
	} now = { shortcut->source, shortcut->destination };
	__u8 hops = packet->ip.v6.hop_limit - 1;

	if (bpf_skb_store_bytes(skb, PLAIN + __builtin_offsetof(struct ipv6hdr, hop_limit), &hops, sizeof(hops), BPF_F_RECOMPUTE_CSUM))
		return 0;
	return !(shortcut->how & TRANSLATED) || !bpf_skb_store_bytes(skb, PLAIN + __builtin_offsetof(struct ipv6hdr, saddr), &now, sizeof(now), 0);
}

// Addresses and ports of another connection, in the TCP or UDP header's checksum and ports.
static __always_inline int translate(struct __sk_buff *skb, const struct packet *packet, const struct shortcut *shortcut)
{
	struct {
		struct address source;
		struct address destination;
	} before = { packet->key.source, packet->key.destination }, now = { shortcut->source, shortcut->destination };
	struct {
		__be16 source;
		__be16 destination;
	} ports_before = { packet->key.source_port, packet->key.destination_port },
	  ports = { shortcut->source_port, shortcut->destination_port };
	int is_udp = packet->key.protocol == IPPROTO_UDP;
	__u32 l4 = PLAIN + packet->ip_len, checksum = l4 + (is_udp ? UDP_CHECKSUM : TCP_CHECKSUM);
	__s64 addresses = bpf_csum_diff((__be32 *)&before, sizeof(before), (__be32 *)&now, sizeof(now), 0);
	__s64 numbers = bpf_csum_diff((__be32 *)&ports_before, sizeof(ports), (__be32 *)&ports, sizeof(ports), 0);
	// A UDP datagram without a checksum stays so, and one with a checksum keeps one.
	__u64 mangled = is_udp ? BPF_F_MARK_MANGLED_0 : 0, family = packet->is_ipv6 ? CSUM_OF_IPV6 : 0;

	if (addresses < 0 || numbers < 0)
		return 0;
	if (bpf_l4_csum_replace(skb, checksum, 0, addresses, BPF_F_PSEUDO_HDR | family | mangled))
		return 0;
	if (bpf_l4_csum_replace(skb, checksum, 0, numbers, mangled))
		return 0;
	return !bpf_skb_store_bytes(skb, l4, &ports, sizeof(ports), 0);
}

// Puts the frame into a tunnel.
static __always_inline int encapsulate(struct __sk_buff *skb, const struct packet *packet, const struct shortcut *shortcut)
{
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
			    BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
	struct {
		struct macs macs;
		__be16 proto;
		struct iphdr ip;
		struct udphdr udp;
		struct vxlan vxlan;
		struct macs inner_macs;
		__be16 inner_proto;
	} __attribute__((packed)) outer = {
		.macs = shortcut->outer,
		.proto = bpf_htons(ETH_P_IP),
		.ip.version = 4,
		.ip.ihl = 5,
		.ip.tos = packet->ecn,
		.ip.id = bpf_get_prandom_u32(),
		.ip.frag_off = bpf_htons(DONT_FRAGMENT),
		.ip.ttl = TTL,
		.ip.protocol = IPPROTO_UDP,
		.ip.saddr = shortcut->to.local,
		.ip.daddr = shortcut->to.remote,
		.udp.source = shortcut->to.source_port,
		.udp.dest = shortcut->to.port,
		.vxlan.flags = bpf_htonl(VXLAN_FLAGS),
		.vxlan.vni = shortcut->to.vni,
		.inner_macs = shortcut->leaves,
		.inner_proto = packet->is_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP),
	};
	struct iphdr ip;

	if (bpf_skb_adjust_room(skb, OVERHEAD, BPF_ADJ_ROOM_MAC, flags))
		return 0;
	outer.ip.tot_len = bpf_htons(skb->len - ETH_HLEN);
	outer.udp.len = bpf_htons(skb->len - ETH_HLEN - sizeof(struct iphdr));
	ip = outer.ip;
	outer.ip.check = ~fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	return !bpf_skb_store_bytes(skb, 0, &outer, sizeof(outer), 0);
}

// Does to a packet what the data path would do; 0 when the kernel has no room for it. From the first step on there is no way back.
static __always_inline int change(struct __sk_buff *skb, struct packet *packet, const struct shortcut *shortcut)
{
	if (packet->at != PLAIN) {
		__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | (packet->is_ipv6 ? DECAP_TO_IPV6 : 0);
		__be16 proto = packet->is_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);

		// What the kernel has put together it has verified first.
		if (skb->gso_size)
			flags |= BPF_F_ADJ_ROOM_NO_CSUM_RESET;
		if (bpf_skb_adjust_room(skb, -(__s32)OVERHEAD, BPF_ADJ_ROOM_MAC, flags))
			return 0;
		if (bpf_skb_store_bytes(skb, 2 * ETH_ALEN, &proto, sizeof(proto), 0))
			return 0;
	}
	if (shortcut->how & TRANSLATED && !translate(skb, packet, shortcut))
		return 0;
	if (packet->is_ipv6 ? !forward_ipv6(skb, packet, shortcut) : !forward_ipv4(skb, packet, shortcut))
		return 0;
	if (shortcut->to.remote)
		return encapsulate(skb, packet, shortcut);
	return !bpf_skb_store_bytes(skb, 0, &shortcut->leaves, sizeof(shortcut->leaves), 0);
}

static __always_inline int carry(struct __sk_buff *skb, struct packet *packet, const struct shortcut *found)
{
	__u32 len = skb->len - (packet->at - PLAIN), here = skb->ifindex;
	// Its owner may change it meanwhile.
	struct shortcut shortcut = *found;
	struct carried *carried;

	if (change(skb, packet, &shortcut)) {
		count(here, shortcut.out, len);
		return bpf_redirect(shortcut.out, 0);
	}
	carried = bpf_map_lookup_elem(&counts, &here);
	if (carried)
		carried->lost++;
	return DROP;
}

SEC("classifier")
int millrace_leave(struct __sk_buff *skb)
{
	struct packet packet = { .at = PLAIN };
	struct bpf_devmap_val *tap;
	struct shortcut *shortcut;
	__u32 here = skb->ifindex;

	tap = bpf_map_lookup_elem(&ends, &here);
	// With the data path its TAP is gone: nothing of what it knew is to be done any more.
	if (!tap)
		return DROP;
	// With a tag, the frame is not for the router.
	if (!skb->vlan_present && read(skb, &packet)) {
		shortcut = find(skb, &packet);
		if (shortcut)
			return carry(skb, &packet, shortcut);
	}
	return bpf_redirect(tap->ifindex, 0);
}

SEC("classifier")
int millrace_enter(struct __sk_buff *skb)
{
	__u32 here = skb->ifindex;
	struct bpf_devmap_val *end = bpf_map_lookup_elem(&ends, &here);

	return end ? bpf_redirect(end->ifindex, 0) : DROP;
}

SEC("classifier")
int millrace_pass(struct __sk_buff *skb)
{
	struct packet packet = { .at = PLAIN };
	struct shortcut *shortcut;

	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return NEXT;
	if (read_tunnel(skb, &packet))
		packet.at = TUNNELLED;
	// Of what is not TCP, the data path has a copy by now (take.c).
	if (!read(skb, &packet) || packet.key.protocol != IPPROTO_TCP)
		return NEXT;
	shortcut = find(skb, &packet);
	return shortcut ? carry(skb, &packet, shortcut) : NEXT;
}

char LICENSE[] SEC("license") = "Apache-2.0";
