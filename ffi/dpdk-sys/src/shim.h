/* What DPDK offers only as inline functions or macros, as functions that can be linked. */
#ifndef MILLRACE_DPDK_SHIM_H
#define MILLRACE_DPDK_SHIM_H

#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>
#include <rte_vhost.h>

/* Flags whose macros contain casts and sums, as constants that a binding generator evaluates. */
static const uint64_t MILLRACE_TX_TUNNEL_VXLAN = RTE_MBUF_F_TX_TUNNEL_VXLAN;
static const uint64_t MILLRACE_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t MILLRACE_TX_UDP_SEG = RTE_MBUF_F_TX_UDP_SEG;
static const uint64_t MILLRACE_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t MILLRACE_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t MILLRACE_TX_SCTP_CKSUM = RTE_MBUF_F_TX_SCTP_CKSUM;
static const uint64_t MILLRACE_TX_L4_MASK = RTE_MBUF_F_TX_L4_MASK;
static const uint64_t MILLRACE_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t MILLRACE_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t MILLRACE_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t MILLRACE_TX_OFFLOAD_MASK = RTE_MBUF_F_TX_OFFLOAD_MASK;
static const uint64_t MILLRACE_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t MILLRACE_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t MILLRACE_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t MILLRACE_ETH_RX_CHECKSUM = RTE_ETH_RX_OFFLOAD_CHECKSUM;
static const uint64_t MILLRACE_ETH_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t MILLRACE_ETH_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
static const uint64_t MILLRACE_ETH_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t MILLRACE_ETH_TX_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t MILLRACE_ETH_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t MILLRACE_ETH_TX_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t MILLRACE_ETH_TX_UDP_TSO = RTE_ETH_TX_OFFLOAD_UDP_TSO;
static const uint64_t MILLRACE_ETH_RSS_IP = RTE_ETH_RSS_IP | RTE_ETH_RSS_TCP | RTE_ETH_RSS_UDP;

/* The calling thread's rte_errno, a macro over thread-local storage. */
int millrace_errno(void);

/* The calling thread's EAL id, LCORE_ID_ANY when it has none. */
unsigned int millrace_lcore_id(void);

/* Routes DPDK's log to `sink`, one call a message; 0 on success. */
typedef void (*millrace_log_sink)(const char *text, size_t length);
int millrace_log_route(millrace_log_sink sink);

struct rte_mbuf *millrace_mbuf_alloc(struct rte_mempool *pool);
int millrace_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count);
void millrace_mbuf_free(struct rte_mbuf *frame);

/* Offload lengths of an mbuf: l2, l3, l4 header bytes and segment size, packed as DPDK packs them. */
uint64_t millrace_mbuf_lengths(uint16_t l2, uint16_t l3, uint16_t l4, uint16_t segment);

/* Name of a pool's driver-private area: bytes of buffer in each mbuf, headroom included. */
uint16_t millrace_pool_data_room(struct rte_mempool *pool);

uint16_t millrace_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t millrace_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);
uint16_t millrace_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count);

#endif
