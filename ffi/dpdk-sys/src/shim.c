#include "shim.h"

#include <stdio.h>
#include <sys/types.h>

int millrace_errno(void)
{
	return rte_errno;
}

unsigned int millrace_lcore_id(void)
{
	return rte_lcore_id();
}

static millrace_log_sink log_sink;

static ssize_t log_write(void *cookie, const char *text, size_t length)
{
	(void)cookie;
	log_sink(text, length);
	return (ssize_t)length;
}

int millrace_log_route(millrace_log_sink sink)
{
	static const cookie_io_functions_t functions = { .write = log_write };
	FILE *stream = fopencookie(NULL, "w", functions);

	if (stream == NULL)
		return -1;
	/* A line at a time, so that a message arrives whole. */
	setvbuf(stream, NULL, _IOLBF, 0);
	log_sink = sink;
	return rte_openlog_stream(stream);
}

struct rte_mbuf *millrace_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

int millrace_mbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **frames, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, frames, count);
}

void millrace_mbuf_free(struct rte_mbuf *frame)
{
	rte_pktmbuf_free(frame);
}

uint64_t millrace_mbuf_lengths(uint16_t l2, uint16_t l3, uint16_t l4, uint16_t segment)
{
	return rte_mbuf_tx_offload(l2, l3, l4, segment, 0, 0, 0);
}

uint16_t millrace_pool_data_room(struct rte_mempool *pool)
{
	return rte_pktmbuf_data_room_size(pool);
}

uint16_t millrace_eth_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, frames, count);
}

uint16_t millrace_eth_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_burst(port, queue, frames, count);
}

uint16_t millrace_eth_tx_prepare(uint16_t port, uint16_t queue, struct rte_mbuf **frames, uint16_t count)
{
	return rte_eth_tx_prepare(port, queue, frames, count);
}
