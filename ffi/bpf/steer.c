// SPDX-License-Identifier: Apache-2.0
//
// Steers received packets either to the AF_XDP socket of their queue or on to the kernel.
//
// On a pod's veth everything is taken (take_all = 1). On an uplink only what is claimed (claims.h) is taken. Everything
// else, ARP and neighbour discovery included, stays with the kernel, and so do the packets of a queue without a socket:
// of a process that has not come up yet, or has gone.

#include "claims.h"

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

// Set before loading; the verifier then removes the branch that is not taken.
const volatile __u8 take_all = 0;

// Set before loading where one program serves many interfaces: sockets are then found by the lower bits of the interface's
// index, too. A packet that meets a socket of another interface is dropped by the kernel (xsk_rcv_check).
const volatile __u32 slot_mask = 0;

// Bytes of the longest frame that is claimed: what the interface's MTU allows, and a socket takes. A longer one, put together
// by the kernel from several, would be lost there.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} longest SEC(".maps");

// Whether the frame, all of its fragments, is no longer than that. Only where the kernel was told that the program knows of
// fragments does a frame have more than the first, which is what `data` and `data_end` span and where all headers are.
static __always_inline int fits(struct xdp_md *context, int has_fragments)
{
	__u32 key = 0, *most = bpf_map_lookup_elem(&longest, &key);
	__u64 bytes = context->data_end - context->data;

	if (has_fragments)
		bytes = bpf_xdp_get_buff_len(context);
	return most && bytes <= *most;
}

static __always_inline int decide(struct xdp_md *context, int has_fragments)
{
	struct packet packet = {};

	if (!take_all && !(is_ours(context, &packet) && fits(context, has_fragments)))
		return XDP_PASS;
	__u32 key = context->rx_queue_index;
	if (slot_mask)
		key = (key * (slot_mask + 1)) + (context->ingress_ifindex & slot_mask);
	// The lower bits of the flags are the verdict for a queue that has no socket (Linux 5.3).
	return bpf_redirect_map(&sockets, key, XDP_PASS);
}

// One of the two is loaded: this one where a frame is one piece of memory,
SEC("xdp")
int steer(struct xdp_md *context)
{
	return decide(context, 0);
}

// and this one where it may be several (BPF_F_XDP_HAS_FRAGS, Linux 5.18).
SEC("xdp.frags")
int steer_long(struct xdp_md *context)
{
	return decide(context, 1);
}

char LICENSE[] SEC("license") = "Apache-2.0";
