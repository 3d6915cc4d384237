// SPDX-License-Identifier: Apache-2.0
//
// Sends frames by an interface, all of a batch in one system call: the data path has this program run (BPF_PROG_TEST_RUN), which
// nothing else does. It is given the frames in a map, and an skb to make them of: that has the room of the longest, the EtherType of
// all, and before it the number of the batch in the map.

#include "batch.h"

#include <linux/bpf.h>
#include <linux/errno.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

// What is sent here is no packet of another host's (PACKET_HOST, linux/if_packet.h).
#define OWN 0

#define MAX_INTERFACES 65536
#define MOST_FRAMES 64
#define LONGEST 2048
#define ROOM (MOST_FRAMES * LONGEST)

struct place {
	__u32 at;
	__u32 len;
};

// As `Shared` in src/batch/area.rs.
struct batch {
	__u8 bytes[ROOM];
	__u32 ifindex;
	__u32 queue;
	__u32 count;
	struct place frames[MOST_FRAMES];
	// Of each frame: 0, a `NET_XMIT_…` or a negative error number.
	__s32 outcomes[MOST_FRAMES];
} __attribute__((aligned(64)));

// One for each worker.
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct batch);
} batches SEC(".maps");

// Interfaces by which batches are sent, each under its number. The kernel removes one that goes, whose number another may get.
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__uint(max_entries, MAX_INTERFACES);
	__type(key, __u32);
	__type(value, struct bpf_devmap_val);
} interfaces SEC(".maps");

// The skb that is sent is a copy of the given one, which has a place of its own in memory again after each.
static __always_inline __s32 send(struct __sk_buff *skb, struct batch *batch, __u32 number, __u32 ifindex)
{
	struct place frame = batch->frames[number];
	__s32 error;

	if (frame.len < ETH_HLEN || frame.len > LONGEST || frame.at > ROOM - LONGEST)
		return -EMSGSIZE;
	if (frame.len != skb->len) {
		error = bpf_skb_change_tail(skb, frame.len, 0);
		if (error)
			return error;
	}
	error = bpf_skb_store_bytes(skb, 0, batch->bytes + frame.at, frame.len, 0);
	return error ? error : bpf_clone_redirect(skb, ifindex, 0);
}

SEC("classifier")
int millrace_send(struct __sk_buff *skb)
{
	struct batch *batch;
	__u32 key, ifindex;
	int is_there;

	if (bpf_skb_load_bytes(skb, 0, &key, sizeof(key)))
		return 0;
	batch = bpf_map_lookup_elem(&batches, &key);
	if (!batch)
		return 0;
	ifindex = batch->ifindex;
	is_there = bpf_map_lookup_elem(&interfaces, &ifindex) != 0;
	bpf_skb_change_type(skb, OWN);
	skb->cb[HANDED_AT] = HANDED;
	// The transmit queue of the number before, as of a packet whose receive queue is known (skb_tx_hash, net/core/dev.c).
	skb->queue_mapping = batch->queue + 1;
	for (__u32 number = 0; number < MOST_FRAMES && number < batch->count; number++)
		batch->outcomes[number] = is_there ? send(skb, batch, number, ifindex) : -ENODEV;
	return 0;
}

char LICENSE[] SEC("license") = "Apache-2.0";
